local sliding_window = {}

local function is_owing(state, terms)
  return state[2] - state[3] > terms[2]
end

local function charged(units, ends, before, terms)
  return { units, ends + max(quotient(units + terms[1] - 1, terms[1]), 1) * terms[2], ends, before }
end

local function current(state, terms, now)
  local limit, interval = terms[1], terms[2]
  if now < state[3] then
    return state
  end
  if now >= state[2] then
    return { 0, now + interval, now + interval, 0 }
  end
  if not is_owing(state, terms) then
    return { 0, state[2], state[2], state[1] }
  end
  local passed = quotient(now - state[3], interval)
  local before = state[1] - passed * limit
  return { max(before - limit, 0), state[2], state[3] + (passed + 1) * interval, min(before, limit) }
end

local function most(terms)
  return min(max(quotient(LONGEST, terms[2]), 1) * terms[1], EXACT - 1)
end

local function estimate(window, interval, now)
  return window[1] + divided(window[4], min(window[3] - now, interval), interval, 0)
end

-- The first instant of a window at which units of the one before weigh at most so much, rounded down.
local function falls_at(ends, interval, units, weight)
  return ends - divided(weight, interval, units, interval - 1)
end

local function retry_at(window, terms, cost)
  local limit, interval, units, ends, before = terms[1], terms[2], window[1], window[3], window[4]
  if cost <= limit - units then
    return falls_at(ends, interval, before, limit - units - cost)
  end
  if not is_owing(window, terms) then
    return falls_at(ends + interval, interval, units, limit - cost)
  end
  local later = quotient(units + cost - 1, limit)
  before, units = min(units - (later - 1) * limit, limit), max(units - later * limit, 0)
  return falls_at(ends + later * interval, interval, before, limit - units - cost)
end

local function window_full_at(window, terms)
  local interval, units = terms[2], window[1]
  if units > 0 then
    return falls_at(window[2], interval, is_owing(window, terms) and fmod(units - 1, terms[1]) + 1 or units, 0)
  end
  return window[4] > 0 and falls_at(window[3], interval, window[4], 0) or window[3] - interval
end

function sliding_window.full_at(state, terms)
  return window_full_at(state[1] > 0 and state or { 0, state[2], state[2] - terms[2], state[4] }, terms)
end

function sliding_window.decide(state, terms, now, cost)
  local interval, window = terms[2], current(state, terms, now)
  local left = terms[1] - estimate(window, interval, now)
  if cost > left then
    return false, max(left, 0), window_full_at(window, terms) - now, retry_at(window, terms, cost) - now, state
  end
  local after = { window[1] + cost, window[3] + interval, window[3], window[4] }
  return true, left - cost, window_full_at(after, terms) - now, 0, after
end

function sliding_window.charge(state, terms, now, units)
  local window = current(state, terms, now)
  local before = is_owing(window, terms) and window[1] or min(window[1], terms[1])
  return charged(max(min(before + units, most(terms)), before), window[3], window[4], terms)
end

function sliding_window.spent(state, terms, now)
  return estimate(current(state, terms, now), terms[2], now)
end

function sliding_window.owed(state, terms, now)
  local window = current(state, terms, now)
  return is_owing(window, terms) and window[1] - terms[1] or 0
end

function sliding_window.opened(units, terms, now)
  return units > 0 and { units, now + 2 * terms[2], now + terms[2], 0 } or fresh()
end

function sliding_window.requote(state, old, new, now)
  if is_owing(state, old) then
    state = current(state, old, now)
  end
  local units, idle_at, ends, before = unpack(state)
  if now >= idle_at then
    return state
  end
  if is_owing(state, old) then
    ends = now + divided_up(min(ends - now, old[2]), new[2], old[2])
    return charged(min(units + min(new[1] - old[1], 0), most(new)), ends, before, new)
  end
  if idle_at == ends then
    units, before = before, 0
  end
  idle_at = now + divided_up(min(idle_at - now, 2 * old[2]), new[2], old[2])
  return { units, idle_at, max(idle_at - new[2], 0), before }
end

function sliding_window.refund(state, terms, taken, now, units)
  if is_owing(state, terms) then
    state = current(state, terms, now)
  end
  if now >= state[2] then
    return state
  end
  if state[3] == taken[3] then
    local left = max(state[1] - units, 0)
    return is_owing(state, terms) and charged(left, state[3], state[4], terms) or { left, state[2], state[3], state[4] }
  end
  if state[3] == taken[3] + terms[2] and not is_owing(state, terms) then
    return { state[1], state[2], state[3], max(state[4] - units, 0) }
  end
  return state
end

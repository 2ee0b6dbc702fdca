local sliding_window = {}

local function current(state, interval, now)
  if now >= state[2] then
    return { 0, now + 2 * interval, 0 }
  end
  if now >= state[2] - interval then
    return { 0, state[2] + interval, state[1] }
  end
  return state
end

local function estimate(window, interval, now)
  return window[1] + divided(window[3], min(window[2] - interval - now, interval), interval, 0)
end

-- The first instant of a window at which units of the one before weigh at most so much, rounded down.
local function falls_at(ends, interval, units, weight)
  return ends - divided(weight, interval, units, interval - 1)
end

local function retry_at(window, terms, cost)
  local interval, room = terms[2], terms[1] - cost - window[1]
  if room >= 0 then
    return falls_at(window[2] - interval, interval, window[3], room)
  end
  return falls_at(window[2], interval, window[1], terms[1] - cost)
end

function sliding_window.full_at(state, terms)
  local interval = terms[2]
  if state[1] > 0 then
    return falls_at(state[2], interval, state[1], 0)
  end
  local ends = state[2] - interval
  return state[3] > 0 and falls_at(ends, interval, state[3], 0) or ends - interval
end

function sliding_window.decide(state, terms, now, cost)
  local window = current(state, terms[2], now)
  local left = terms[1] - estimate(window, terms[2], now)
  if cost > left then
    return false, max(left, 0), sliding_window.full_at(window, terms) - now, retry_at(window, terms, cost) - now, state
  end
  local after = { window[1] + cost, window[2], window[3] }
  return true, left - cost, sliding_window.full_at(after, terms) - now, 0, after
end

function sliding_window.spent(state, terms, now)
  return estimate(current(state, terms[2], now), terms[2], now)
end

function sliding_window.opened(units, terms, now)
  return units > 0 and { units, now + 2 * terms[2], 0 } or fresh()
end

function sliding_window.requote(state, old, new, now)
  if now >= state[2] then
    return state
  end
  local left = min(state[2] - now, 2 * old[2])
  return { state[1], now + divided_up(left, new[2], old[2]), state[3] }
end

function sliding_window.refund(state, terms, taken, now, units)
  if now >= state[2] then
    return state
  end
  if state[2] == taken[2] then
    return { state[1] - min(units, state[1]), state[2], state[3] }
  end
  if state[2] == taken[2] + terms[2] then
    return { state[1], state[2], state[3] - min(units, state[3]) }
  end
  return state
end

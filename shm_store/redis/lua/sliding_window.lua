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
  return window[1] + divided_up(window[3], min(window[2] - interval - now, interval), interval)
end

local function retry_at(window, terms, cost)
  local interval, room = terms[2], terms[1] - cost - window[1]
  local ends = window[2] - interval
  if room >= 0 then
    return ends - divided(room, interval, window[3], 0)
  end
  return ends + interval - divided(terms[1] - cost, interval, window[1], 0)
end

function sliding_window.decide(state, terms, now, cost)
  local window = current(state, terms[2], now)
  local left = terms[1] - estimate(window, terms[2], now)
  if cost > left then
    return false, max(left, 0), state[2] - now, retry_at(window, terms, cost) - now, state
  end
  return true, left - cost, window[2] - now, 0, { window[1] + cost, window[2], window[3] }
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

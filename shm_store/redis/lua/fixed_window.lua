local fixed_window = { spent = spent_in, refund = refund_in }

-- Windows begin at multiples of the interval since 1970, in UTC.
local function end_of_window(terms, now)
  return now + terms[2] - fmod(now, terms[2])
end

function fixed_window.decide(state, terms, now, cost)
  local window = now < state[2] and state or { 0, end_of_window(terms, now), 0 }
  return decide_in(window, state, terms, now, cost)
end

function fixed_window.opened(units, terms, now)
  return units > 0 and { units, end_of_window(terms, now), 0 } or fresh()
end

function fixed_window.requote(state, old, new, now)
  if now >= state[2] then
    return state
  end
  return { state[1], old[2] == new[2] and min(state[2], now + new[2]) or end_of_window(new, now), 0 }
end

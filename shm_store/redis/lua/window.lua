-- What token-bucket and fixed-window have in common: the units of one window.

local function decide_in(window, state, terms, now, cost)
  local remaining, reset_after = terms[1] - window[1] - cost, window[2] - now
  if remaining < 0 then
    return false, max(terms[1] - window[1], 0), reset_after, reset_after, state
  end
  return true, remaining, reset_after, 0, { window[1] + cost, window[2], 0 }
end

local function spent_in(state, _, now)
  return now < state[2] and state[1] or 0
end

local function refund_in(state, _, taken, now, units)
  if state[2] ~= taken[2] or now >= state[2] then
    return state
  end
  return { state[1] - min(units, state[1]), state[2], 0 }
end

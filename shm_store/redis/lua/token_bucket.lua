local token_bucket = { spent = spent_in, refund = refund_in }

function token_bucket.decide(state, terms, now, cost)
  local window = state
  if is_fresh(state) then
    window = { 0, now + terms[2], 0 }
  elseif now >= state[2] then
    window = { 0, now + terms[2] - fmod(now - state[2], terms[2]), 0 }
  end
  return decide_in(window, state, terms, now, cost)
end

function token_bucket.opened(units, terms, now)
  return units > 0 and { units, now + terms[2], 0 } or fresh()
end

function token_bucket.requote(state, old, new, now)
  if is_fresh(state) then
    return state
  end
  return { state[1], min(max(state[2] - old[2], 0), now) + new[2], 0 }
end

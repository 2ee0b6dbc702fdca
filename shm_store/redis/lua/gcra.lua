local gcra = {}

-- The instant `whole` + `part` / limit as that of a state; the part is less than the limit, and may be negative.
local function tat_at(whole, part, limit, first)
  if part > 0 then
    return { first, whole + 1, limit - part }
  end
  return { first, whole, 0 - part }
end

-- How much is missing from a bucket, in units and in what is left of one, of `interval` parts of 1 / limit microsecond.
local function missing(state, terms, now)
  return divided(state[2] - now - 1, terms[1], terms[2], terms[1] - state[3])
end

function gcra.decide(state, terms, now, cost)
  local limit, interval = terms[1], terms[2]
  local begin, part = now, 0
  if state[2] > now then
    begin, part = state[2], 0 - state[3]
  end
  local cost_whole, cost_part = divided(cost, interval, limit, 0)
  local most_whole, most_part = divided(terms[3], interval, limit, 0)
  local after = tat_at(begin + cost_whole, part + cost_part, limit, state[1])
  -- The most that may be missing, less what would be missing: whole + part / limit.
  local whole_left, part_left = most_whole - (after[2] - now), most_part + after[3]
  if part_left >= limit then
    whole_left, part_left = whole_left + 1, part_left - limit
  end
  if whole_left >= 0 then
    local remaining = divided(whole_left, limit, interval, part_left)
    return true, remaining, after[2] - now, 0, after
  end
  local remaining, whole, rest = 0, most_whole - (begin - now), most_part - part
  if rest >= limit then
    whole, rest = whole + 1, rest - limit
  end
  if whole >= 0 then
    remaining = divided(whole, limit, interval, rest)
  end
  return false, remaining, state[2] - now, 0 - whole_left, state
end

function gcra.spent(state, terms, now)
  if state[2] <= now then
    return 0
  end
  local units, rest = missing(state, terms, now)
  return rest > 0 and units + 1 or units
end

function gcra.opened(units, terms, now)
  if units == 0 then
    return fresh()
  end
  local whole, part = divided(min(units, terms[3]), terms[2], terms[1], 0)
  return tat_at(now + whole, part, terms[1], 0)
end

function gcra.requote(state, old, new, now)
  if state[2] <= now then
    return { state[1], state[2], 0 }
  end
  local units, rest = missing(state, old, now)
  local more = divided_up(rest, new[2], old[2])
  if units >= new[3] then
    units, more = new[3], 0
  end
  local whole, part = divided(units, new[2], new[1], more)
  if part > 0 and fmod(new[2], new[1]) == 0 then
    -- Whole emission intervals: TAT is a whole microsecond, and later takes keep it so.
    whole, part = whole + 1, 0
  end
  return tat_at(now + whole, part, new[1], state[1])
end

function gcra.refund(state, terms, taken, now, units)
  local limit, moved = terms[1], state[1] - taken[1]
  if moved < 0 then
    return state
  end
  -- Each as whole + part / limit, with a part of 0 or more that is less than the limit.
  local whole, part = divided(units, terms[2], limit, 0)
  for _, bound in ipairs({ { taken[2] - moved - now, taken[3] }, { state[2] - now, state[3] } }) do
    local bound_whole, bound_part = bound[1], 0
    if bound[2] > 0 then
      bound_whole, bound_part = bound[1] - 1, limit - bound[2]
    end
    if bound_whole < whole or (bound_whole == whole and bound_part < part) then
      whole, part = bound_whole, bound_part
    end
  end
  local first = state[1] + whole + (part > 0 and 1 or 0)
  if whole < 0 or (whole == 0 and part == 0) or first >= EXACT then
    return state
  end
  local third, idle_at = state[3] + part, state[2] - whole
  if third >= limit then
    third, idle_at = third - limit, idle_at - 1
  end
  return { first, idle_at, third }
end

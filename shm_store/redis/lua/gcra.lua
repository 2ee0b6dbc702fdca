local gcra = {}

-- The instant `whole` + `part` / limit as that of a state; the part is less than the limit, and may be negative.
local function tat_at(whole, part, limit, first)
  if part > 0 then
    return { first, whole + 1, limit - part, 0 }
  end
  return { first, whole, 0 - part, 0 }
end

-- a + b and a - b in whole numbers and parts of 1 / limit, which are 0 or more.
local function sum(whole, part, more_whole, more_part, limit)
  if part + more_part >= limit then
    return whole + more_whole + 1, part + more_part - limit
  end
  return whole + more_whole, part + more_part
end

local function difference(whole, part, less_whole, less_part, limit)
  if part < less_part then
    return whole - less_whole - 1, part - less_part + limit
  end
  return whole - less_whole, part - less_part
end

-- How far TAT is ahead, as such numbers.
local function ahead(state, now, limit)
  if state[2] <= now then
    return 0, 0
  end
  if state[3] > 0 then
    return state[2] - now - 1, limit - state[3]
  end
  return state[2] - now, 0
end

-- How much is missing from a bucket, in units and in what is left of one, of `interval` parts of 1 / limit microsecond.
local function missing(state, terms, now)
  return divided(state[2] - now - 1, terms[1], terms[2], terms[1] - state[3])
end

function gcra.decide(state, terms, now, cost)
  local limit, interval = terms[1], terms[2]
  local ahead_whole, ahead_part = ahead(state, now, limit)
  local cost_whole, cost_part = divided(cost, interval, limit, 0)
  local most_whole, most_part = divided(terms[3], interval, limit, 0)
  -- TAT may be so far ahead that its sum with the cost is none that a double holds.
  local left_whole, left_part = difference(most_whole, most_part, cost_whole, cost_part, limit)
  left_whole, left_part = difference(left_whole, left_part, ahead_whole, ahead_part, limit)
  if left_whole >= 0 then
    local whole, part = sum(ahead_whole, ahead_part, cost_whole, cost_part, limit)
    local after, remaining = tat_at(now + whole, part, limit, state[1]), divided(left_whole, limit, interval, left_part)
    return true, remaining, after[2] - now, 0, after
  end
  local remaining = 0
  local whole, rest = difference(most_whole, most_part, ahead_whole, ahead_part, limit)
  if whole >= 0 then
    remaining = divided(whole, limit, interval, rest)
  end
  return false, remaining, state[2] - now, 0 - left_whole, state
end

function gcra.book(state, terms, now, cost, patience)
  local allowed, remaining, reset_after, wait, after = gcra.decide(state, terms, now, cost)
  if wait == 0 or wait > min(patience, LONGEST) then
    return allowed, remaining, reset_after, wait, after
  end
  after = gcra.charge(state, terms, now, cost)
  return true, 0, after[2] - now, wait, after
end

function gcra.charge(state, terms, now, units)
  local limit, interval = terms[1], terms[2]
  local before_whole, before_part = ahead(state, now, limit)
  local cost_whole, cost_part = divided(units, interval, limit, 0)
  local whole, part = sum(before_whole, before_part, cost_whole, cost_part, limit)
  local most_whole, most_part = divided(terms[3], interval, limit, 0)
  most_whole = most_whole + LONGEST
  if whole > most_whole or whole == most_whole and part > most_part then
    whole, part = most_whole, most_part
    if before_whole > whole or before_whole == whole and before_part > part then
      whole, part = before_whole, before_part
    end
  end
  return tat_at(now + whole, part, limit, state[1])
end

function gcra.owed(state, terms, now)
  return max(gcra.spent(state, terms, now) - terms[3], 0)
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
    return { state[1], state[2], 0, 0 }
  end
  local units, rest = missing(state, old, now)
  local spent, more, owed, owed_more = units, rest, 0, 0
  if units >= old[3] then
    spent, more, owed, owed_more = old[3], 0, units - old[3], rest
  end
  if spent >= new[3] then
    spent, more = new[3], 0
  end
  local whole, part = divided(spent, new[2], new[1], divided_up(more, new[2], old[2]))
  if owed > 0 or owed_more > 0 then
    local owed_whole, owed_part = divided(owed, new[2], new[1], divided_up(owed_more, new[2], old[2]))
    if owed_whole >= LONGEST then
      owed_whole, owed_part = LONGEST, 0
    end
    whole, part = sum(whole, part, owed_whole, owed_part, new[1])
  end
  if part > 0 and fmod(new[2], new[1]) == 0 then
    -- Whole emission intervals: TAT is a whole microsecond, and later takes keep it so.
    whole, part = whole + 1, 0
  end
  return tat_at(now + whole, part, new[1], state[1])
end

function gcra.refund(state, terms, taken, now, units)
  local limit, moved = terms[1], state[1] - taken[1]
  local owes = gcra.owed(state, terms, now) > 0
  if moved < 0 or owes and (state[1] ~= taken[1] or state[2] ~= taken[2] or state[3] ~= taken[3]) then
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
  return { first, idle_at, third, 0 }
end

-- The algorithms of shm_store/algorithms, with the same five functions each, for a server that has only doubles.
--
-- A double holds every integer up to 2^53. Times are whole microseconds, the unit of the server's clock: until 2055 an
-- instant and two intervals of 100 years fit. Limits, bursts and intervals are below 2^52. `divided` alone meets numbers
-- that are larger. An exact instant of gcra is `idle_at` - `third` / limit.
--
-- A state is {first, idle_at, third}, terms are {limit, interval, burst}. `decide` returns whether a take is allowed,
-- what remains, the time until the bucket is full, the time until the take would be allowed, and the state after it.

local fmod, min, max = math.fmod, math.min, math.max
local EXACT, LIMB = 2 ^ 53, 2 ^ 26

-- (a * b + e) / c, rounded down, and what is left: exactly, for a, e and a quotient below 2^53, and b and c below 2^52.
local function divided(a, b, c, e)
  local sum = a * b + e
  if sum < EXACT then
    local rest = fmod(sum, c)
    return (sum - rest) / c, rest
  end
  -- In limbs of 26 bits: a product of two of them is exact.
  local a0, b0, e0 = fmod(a, LIMB), fmod(b, LIMB), fmod(e, LIMB)
  local a1, b1, e1 = (a - a0) / LIMB, (b - b0) / LIMB, (e - e0) / LIMB
  local low, left, right, high = a0 * b0 + e0, a0 * b1, a1 * b0, a1 * b1
  local l0, left0, right0, high0 = fmod(low, LIMB), fmod(left, LIMB), fmod(right, LIMB), fmod(high, LIMB)
  local middle = left0 + right0 + e1 + (low - l0) / LIMB
  local l1 = fmod(middle, LIMB)
  local upper = high0 + (middle - l1) / LIMB + (left - left0) / LIMB + (right - right0) / LIMB
  local l2 = fmod(upper, LIMB)
  local l3 = (high - high0) / LIMB + (upper - l2) / LIMB
  -- Long division, a bit at a time; twice the rest is compared with c without being made.
  local quotient, rest = 0, 0
  for _, limb in ipairs({ l3, l2, l1, l0 }) do
    local weight = LIMB / 2
    for _ = 1, 26 do
      local bit = 0
      if limb >= weight then
        bit, limb = 1, limb - weight
      end
      weight = weight / 2
      quotient = quotient + quotient
      if rest >= c - rest then
        rest, quotient = rest - (c - rest), quotient + 1
      else
        rest = rest + rest
      end
      rest = rest + bit
      if rest >= c then
        rest, quotient = rest - c, quotient + 1
      end
    end
  end
  return quotient, rest
end

local function divided_up(a, b, c)
  local quotient, rest = divided(a, b, c, 0)
  return rest > 0 and quotient + 1 or quotient
end

local function fresh()
  return { 0, 0, 0 }
end

local function is_fresh(state)
  return state[1] == 0 and state[2] == 0 and state[3] == 0
end

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
  local whole, part = divided(units, terms[2], terms[1], 0)
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

-- By the codes that slots store.
local ALGORITHMS = { [0] = token_bucket, gcra, fixed_window, sliding_window }

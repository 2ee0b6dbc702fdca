-- The algorithms of shm_store/core/algorithms, with the same functions each, for a server that has only doubles: what they
-- have in common.
--
-- A double holds every integer up to 2^53. Times are whole microseconds, the unit of the server's clock: until 2055 an
-- instant and two intervals of 100 years fit. Limits, bursts and intervals are below 2^52. `divided` alone meets numbers
-- that are larger. An exact instant of gcra is `idle_at` - `third` / limit.
--
-- A state has the same four words. Terms are {limit, interval, burst}. `decide` returns whether a take is allowed, what
-- remains, the time until the bucket is full, the time until the take would be allowed, and the state after it.

local fmod, min, max = math.fmod, math.min, math.max
-- Below it a double holds every integer. And 100 years, the longest interval, and how far ahead a bucket may owe.
local EXACT, LONGEST = 2 ^ 53, 36500 * 86400 * 1000000

-- a / b, rounded down.
local function quotient(a, b)
  return (a - fmod(a, b)) / b
end

-- The answer to a take, which `shm_store/redis/answers.py` reads.
local function answer_of(allowed, terms, remaining, reset_after, retry_after)
  return { allowed, terms[3], remaining, reset_after, retry_after }
end

local function fresh()
  return { 0, 0, 0, 0 }
end


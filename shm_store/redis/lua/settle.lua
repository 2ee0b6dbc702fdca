-- Refunds the units that a take did not use, or charges those that it used beyond its cost. Answers for each part how many
-- of its units were charged that were not there.
--
-- A part is { name, is_flight, units, owes, code, limit, interval, burst, tag, state }. `name` is a position in KEYS.
-- Positive units are refunded, negative ones charged; with `owes`, also those that are not there. `state` is the one
-- after the take. For units in flight, `tag` is the reservation's member in the sorted set.

local settings = cmsgpack.unpack(ARGV[2])
local tag, now, min_ttl, in_flight_ttl = settings[1], now_of(settings[2]), settings[3], settings[4]

local function refund(bucket, part)
  if bucket.tag == part[9] then
    bucket.state = ALGORITHMS[bucket.code].refund(bucket.state, bucket.terms, part[10], bucket.now, part[3])
  end
end

local function charge(bucket, units, owes)
  local short = max(units - left_of(bucket), 0)
  units = owes and units or units - short
  if units > 0 then
    bucket.state = ALGORITHMS[bucket.code].charge(bucket.state, bucket.terms, bucket.now, units)
  end
  return short
end

local shorts = {}
for index, part in ipairs(cmsgpack.unpack(ARGV[1])) do
  local short = 0
  if part[2] then
    local flight = flight_of(KEYS, part[1], in_flight_ttl)
    if redis.call("ZREM", flight.set, part[9]) == 1 then
      local is_over = false
      for _, member in ipairs(flight.ended) do
        is_over = is_over or member == part[9]
      end
      flight.units = is_over and flight.units or max(flight.units - part[3], 0)
      save_flight(flight, in_flight_ttl)
    end
  else
    local bucket = bucket_of(KEYS[part[1]], now, min_ttl)
    if not bucket and part[3] < 0 then
      short = 0 - part[3]
      -- What is owed begins a new bucket.
      bucket = part[4] and new_bucket(KEYS[part[1]], part[5], { part[6], part[7], part[8] }, now)
    end
    if bucket then
      if part[3] > 0 then
        refund(bucket, part)
      else
        short = charge(bucket, 0 - part[3], part[4])
      end
      if bucket.state ~= bucket.base then
        save(bucket, tag, min_ttl)
      end
    end
  end
  shorts[index] = short
end
return cmsgpack.pack(shorts)

-- Units in flight. Each key has a sorted set of reservations: a member is `id:units`, its score the instant at which it
-- expires. A second name holds the limit of the latest take and the sum of the units.
--
-- Instants come from the server's clock, even in a test that sets a time of its own. A process renews its reservations
-- while they are in flight; those of a dead process expire. If the clock steps back, no reservation lasts longer than
-- one that begins now.

local function units_of(members)
  local units = 0
  for _, member in ipairs(members) do
    units = units + tonumber(string.match(member, ":(%d+)$"))
  end
  return units
end

local function flight_of(names, at, in_flight_ttl)
  local now = now_of(0)
  local flight = { set = names[at], sum = names[at + 1], limit = 0, units = 0, now = now }
  local last = now + in_flight_ttl
  for _, member in ipairs(redis.call("ZRANGEBYSCORE", flight.set, string.format("(%.0f", last), "+inf")) do
    redis.call("ZADD", flight.set, last, member)
  end
  local text = redis.call("GET", flight.sum)
  if text then
    flight.limit, flight.units = cmsgpack.unpack(text)
  else
    -- Nothing is in flight, or the server lacked memory and evicted this name but not the other.
    flight.units = units_of(redis.call("ZRANGEBYSCORE", flight.set, "-inf", "+inf"))
  end
  flight.ended = redis.call("ZRANGEBYSCORE", flight.set, "-inf", now)
  flight.units = flight.units - units_of(flight.ended)
  if redis.call("ZCARD", flight.set) == #flight.ended then
    flight.units = 0
  end
  flight.base = flight.units
  return flight
end

local function save_flight(flight, in_flight_ttl)
  if #flight.ended > 0 then
    redis.call("ZREMRANGEBYSCORE", flight.set, "-inf", flight.now)
  end
  local last = math.ceil(in_flight_ttl / 1000)
  redis.call("PEXPIRE", flight.set, last)
  redis.call("SET", flight.sum, cmsgpack.pack(flight.limit, flight.units), "PX", last)
end

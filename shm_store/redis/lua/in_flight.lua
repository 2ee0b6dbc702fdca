-- Units in flight: of each key a sorted set of reservations, `id:units`, by the instant from which they no longer count,
-- and under a second name the limit that was last asked for and how many units there are.
--
-- They go by the server's clock, whatever tests tell: a process says again and again that what it has is still in
-- flight; of one that died it counts until its time has passed. With the clock set back no reservation counts for longer
-- than one that begins now.

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
    -- Nothing is in flight, or a server without room has given up this name and not the other.
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

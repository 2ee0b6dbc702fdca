-- Microseconds since 1970, by the server's clock; or what a test says they are.
local function now_of(told)
  if told > 0 then
    return told
  end
  local time = redis.call("TIME")
  return time[1] * 1000000 + time[2]
end

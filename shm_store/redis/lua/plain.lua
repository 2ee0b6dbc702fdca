-- Decides nearly every take: of a bucket that is new, or has the quota of the take, and whose time has not gone back.
-- All others continue in `take`.

local code, limit, interval, burst, min_ttl = cmsgpack.unpack(ARGV[1])
local cost, tag, now = tonumber(ARGV[2]), ARGV[3], now_of(tonumber(ARGV[4]))

do
  local terms, state, own_tag, own_time, ahead = { limit, interval, burst }, fresh(), tag, now, 0
  local text = redis.call("GET", KEYS[1])
  local is_plain = cost >= 1 and cost <= burst
  if text then
    local first, idle_at, third, fourth, code_now, limit_now, interval_now, burst_now, tag_now, override, at, ahead_now =
      cmsgpack.unpack(text)
    own_time = now + ahead_now
    -- A clock that has stepped back, and a bucket that may go by the clock again, are the affair of `buckets`.
    is_plain = is_plain and not override and code == code_now and limit == limit_now and interval == interval_now
      and burst == burst_now and own_time >= at and (ahead_now == 0 or idle_at > own_time)
    if idle_at + min_ttl > own_time then
      state, own_tag, ahead = { first, idle_at, third, fourth }, tag_now or tag, ahead_now
    end
  end
  if is_plain then
    local allowed, remaining, reset_after, retry_after, after = algorithm.decide(state, terms, own_time, cost)
    if allowed then
      redis.call(
        "SET", KEYS[1],
        cmsgpack.pack(
          after[1], after[2], after[3], after[4], code, limit, interval, burst, own_tag, false, own_time, ahead
        ),
        "PX", math.ceil((after[2] + min_ttl - own_time) / 1000)
      )
    end
    return cmsgpack.pack(answer_of(allowed, terms, remaining, reset_after, retry_after))
  end
end

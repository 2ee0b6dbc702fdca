-- Buckets: what is stored of one, under one name, until it has been idle for `min_ttl`; of an override, for ever.
--
-- A bucket is { name, code, terms, base, state, tag, override }: its state before and after what was taken so far. Its
-- tag is another one whenever reservations of before may give nothing back to it.

local function bucket_of(name, now, min_ttl)
  local text = redis.call("GET", name)
  if not text then
    return nil
  end
  local first, idle_at, third, code, limit, interval, burst, tag, override = cmsgpack.unpack(text)
  local bucket = { name = name, code = code, terms = { limit, interval, burst }, tag = tag, override = override }
  bucket.base = { first, idle_at, third }
  if idle_at + min_ttl <= now then
    if not override then
      return nil
    end
    bucket.base, bucket.tag = fresh(), nil
  end
  bucket.state = bucket.base
  return bucket
end

local function new_bucket(name, code, terms)
  local state = fresh()
  return { name = name, code = code, terms = terms, base = state, state = state, override = false }
end

-- Goes on under another quota, before anything is taken; an override keeps its own.
local function adopt(bucket, code, terms, now)
  local old = bucket.terms
  if bucket.override then
    return
  end
  if bucket.code ~= code or old[1] ~= terms[1] or old[2] ~= terms[2] or old[3] ~= terms[3] then
    bucket.base = requoted(bucket.base, bucket.code, old, code, terms, now)
    bucket.state, bucket.code, bucket.terms, bucket.tag, bucket.is_requoted = bucket.base, code, terms, nil, true
  end
end

local function left_of(bucket, now)
  return max(bucket.terms[3] - ALGORITHMS[bucket.code].spent(bucket.base, bucket.terms, now), 0)
end

local function full_at(bucket)
  local of = ALGORITHMS[bucket.code].full_at
  return of and of(bucket.base, bucket.terms) or bucket.base[2]
end

local function save(bucket, tag, now, min_ttl)
  local state, terms = bucket.state, bucket.terms
  bucket.tag = bucket.tag or tag
  local text = cmsgpack.pack(
    state[1], state[2], state[3], bucket.code, terms[1], terms[2], terms[3], bucket.tag, bucket.override
  )
  if bucket.override then
    redis.call("SET", bucket.name, text)
  else
    redis.call("SET", bucket.name, text, "PX", max(math.ceil((state[2] + min_ttl - now) / 1000), 1))
  end
end

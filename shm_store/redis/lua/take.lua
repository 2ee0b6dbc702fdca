local answers = take_all(
  { { 1, false, code, limit, interval, burst, cost, false } },
  { tag = tag, now = now, min_ttl = min_ttl }
)
return cmsgpack.pack(answers[1] == "cost" and answers or answers[1])

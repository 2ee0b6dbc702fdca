local token_bucket = windowed(function(ends, terms, now)
  return now + terms[2] - (ends > 0 and fmod(now - ends, terms[2]) or 0)
end, function(ends, old, new, now)
  return ends > 0 and min(max(ends - old[2], 0), now) + new[2] or 0
end)

local settings = cmsgpack.unpack(ARGV[2])
return cmsgpack.pack(take_all(cmsgpack.unpack(ARGV[1]), {
  tag = settings[1],
  now = now_of(settings[2]),
  min_ttl = settings[3],
  in_flight_ttl = settings[4],
  is_peek = settings[5],
  is_reserved = settings[6],
  patience = settings[7],
}))

-- Prints what a run of wrk has measured, for servers_load.py. Nothing is done for each response: wrk shares the cores.

function done(summary, latency)
   print("requests", summary.requests)
   print("duration_us", summary.duration)
   print("status", summary.errors.status)
   print("p50_us", latency:percentile(50))
   print("p99_us", latency:percentile(99))
   for _, kind in ipairs({ "connect", "read", "write", "timeout" }) do
      print(kind, summary.errors[kind])
   end
end

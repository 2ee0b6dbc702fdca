-- Counts wrk's responses by key and status. After the URL: the name of a header, then the values it takes in turn, one
-- for each thread; without them the key is "-". A "*" at the end of the URL's path becomes another text each time.

local threads = {}

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init(args)
   counts = {}
   key = "-"
   if #args > 1 then
      key = args[2 + number % (#args - 1)]
      wrk.headers[args[1]] = key
   end
   if wrk.path:sub(-1) == "*" then
      local stem = wrk.path:sub(1, -2)
      math.randomseed(os.time() + number)
      request = function()
         return wrk.format(nil, stem .. math.random(1, 2 ^ 31 - 1))
      end
   end
end

function response(status)
   counts[status] = (counts[status] or 0) + 1
end

function done(summary)
   for _, thread in ipairs(threads) do
      for status, count in pairs(thread:get("counts")) do
         print("counted", thread:get("key"), status, count)
      end
   end
   print("requests", summary.requests)
   for _, kind in ipairs({ "connect", "read", "write", "timeout" }) do
      print("error", kind, summary.errors[kind])
   end
end

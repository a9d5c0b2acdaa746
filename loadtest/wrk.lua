-- For wrk: sends the bodies of a file (one a line), each in its turn, and ends with one line of JSON.
-- wrk -t1 -c64 -d5s -s wrk.lua http://127.0.0.1:8080/v1/embeddings -- BODIES

local requests, sent = {}, 0

function init(arguments)
  local headers = { ["content-type"] = "application/json" }
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

-- Times are in microseconds. `status` counts answers of 400 and above.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "duration": %d, "p50": %.1f, "p99": %.1f, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end

-- wrk script: one tools/call over and over. Arguments after `--`: bytes of the body, and a session id or nothing.
-- The last line of output is a JSON object for wrk.py.

local HEAD = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"'
local TAIL = '"}}}'

function init(arguments)
   local filler = "The quick brown fox jumps over the lazy dog, then rests. "
   local wanted = tonumber(arguments[1]) - #HEAD - #TAIL
   local text = filler:rep(math.ceil(wanted / #filler)):sub(1, wanted)
   wrk.method = "POST"
   wrk.body = HEAD .. text .. TAIL
   wrk.headers["Content-Type"] = "application/json"
   wrk.headers["Accept"] = "application/json, text/event-stream"
   wrk.headers["Authorization"] = "Bearer 0123456789abcdef0123456789abcdef"
   wrk.headers["Mcp-Protocol-Version"] = "2025-11-25"
   if arguments[2] then
      wrk.headers["Mcp-Session-Id"] = arguments[2]
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"seconds":%.6f,"errors":%d,"p50":%.1f,"p99":%.1f}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.timeout + errors.status,
      latency:percentile(50), latency:percentile(99)))
end

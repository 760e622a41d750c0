-- Ends the calls at a worker that went down, so that those that may be repeated go to another one.
-- `on-marked-down shutdown-sessions` would do so at once. But HAProxy closes the client's connection without a response
-- when it shuts a session down that is only connecting; without that, the session is sent to another server. So wait
-- until no connection attempt to the worker can be under way: for the connect timeout.

local milliseconds = tonumber((...))

local function end_calls(server)
  core.msleep(milliseconds)
  -- a worker that is back goes on with its calls
  if string.find(server:get_stats().status, "^DOWN") then server:shut_sess() end
end

core.event_sub({"SERVER_DOWN"}, function(_, data)
  if data.reference then core.register_task(end_calls, data.reference) end
end)

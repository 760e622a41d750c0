-- Ends the calls at a worker that went down, so that those that may be repeated go to another one.
-- `on-marked-down shutdown-sessions` would do so at once, and has two faults:
-- * HAProxy closes the client's connection without a response when it shuts a session down that is only connecting;
--   left alone, the session goes to another server. So wait until no attempt to connect to the worker can be under way:
--   for the connect timeout.
-- * Calls go on at a worker that only does not answer its checks, since its controller is being restarted. So end them
--   when no connection can be made: the checks' state begins with L4 then (while one runs, with "* ").

local milliseconds = tonumber((...))

local function end_calls(server)
  repeat
    core.msleep(milliseconds)
    local stats = server:get_stats()
    if not string.find(stats.status, "^DOWN") then return end -- it is back, or to be removed
  until string.find(stats.check_status, "L4")
  server:shut_sess()
end

core.event_sub({"SERVER_DOWN"}, function(_, data)
  if data.reference then core.register_task(end_calls, data.reference) end
end)

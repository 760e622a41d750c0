-- Holds a cold request while the controller wakes its function.
-- Sends one line: "KEY\n", the key of a function or of one of its revisions (see split.lua). Reads one line:
-- "ok SLOT TOOK\n", where TOOK has the phases of the wake (for the access log, see accesslog.py), or
-- "no STATUS RETRY_AFTER LENGTH\n" and LENGTH bytes of text.
-- The supervisor owns the listening socket, so a refusal or an early end means that the
-- controller is restarting: ask again until the deadline. Asking twice is harmless: waking is idempotent.
-- Each HAProxy thread has its own Lua state. The controller enforces the exact caps; these bound each thread
-- while there is no controller.

local socket_path, deadline, most, most_each = table.unpack({...})
deadline, most, most_each = tonumber(deadline), tonumber(most), tonumber(most_each)

local COLLECT_MS = 100 -- a full collection takes some milliseconds
local SERVERLESS_SECONDS = 10 -- how long the controller and this process may disagree about a slot's servers
local TELL_SECONDS = 1 -- that the controller may take to answer that a slot is full
local UNTOLD_MS = 100 -- pause before the next attempt when it did not answer
local MOST_TELLING = 16 -- slots at once in one thread; the controller notices others at its next look

local function refuse(txn, status, retry_after, text)
  local reply = txn:reply({status = status})
  reply:add_header("content-type", "text/plain; charset=utf-8")
  reply:add_header("x-openfaas-internal", "proxy")
  reply:add_header("x-cold-start", "true")
  local id = txn:get_var("txn.id")
  if id then reply:add_header("x-call-id", id) end
  if retry_after ~= "0" then reply:add_header("retry-after", retry_after) end
  reply:set_body(text)
  txn:done(reply)
end

local function ask(name, seconds)
  local socket = core.tcp()
  socket:settimeout(seconds)
  if not socket:connect(socket_path) then socket:close() return nil end
  socket:send(name .. "\n")
  local line = socket:receive("*l")
  local text
  if line then
    local length = string.match(line, "^no %d+ %d+ (%d+)$")
    if length then text = socket:receive(tonumber(length)) end
  end
  socket:close()
  return line, text
end

local function microseconds()
  local now = core.now()
  return now.sec * 1000000 + now.usec
end

-- Returns when the slot in the controller's answer has a server. It has none yet while the controller sends its servers
-- to a new process, and none any more when the function fell asleep in between: ask again. A process that a reload
-- replaced hears of no new servers, so its held requests go to its successor.
local function hold(txn, name)
  local begin = microseconds()
  local ends = core.now().sec + deadline
  local serverless_until
  while true do
    local left = ends - core.now().sec
    if serverless_until then left = math.min(left, serverless_until - core.now().sec) end
    if left <= 0 then return refuse(txn, 503, "1", "the controller does not answer; try again\n") end
    local line, text = ask(name, left)
    if line then
      local slot, took = string.match(line, "^ok (%S+) (%S+)$")
      if slot and (txn.c:nbsrv(slot) > 0 or txn.f:stopping() == 1) then
        txn:set_var("txn.hold", string.format("%d:%s", microseconds() - begin, took))
        return txn:set_var("txn.slot", slot)
      end
      if slot then serverless_until = serverless_until or core.now().sec + SERVERLESS_SECONDS end
      local status, after = string.match(line, "^no (%d+) (%d+) %d+$")
      if status then return refuse(txn, tonumber(status), after, text or "the function could not be woken\n") end
    end
    core.msleep(20)
  end
end

-- A place among the held requests. HAProxy destroys the coroutine of a request whose client leaves: no further line of
-- it runs, not even after a pcall. So a place frees itself when its coroutine is garbage-collected. HAProxy collects at
-- once when a coroutine ends in `ask`, with an open socket, but not in the pause between two attempts, nor after an
-- error. So a request that finds no free place collects before it is refused, at most every COLLECT_MS.
local held, held_of = 0, {}
local collected = 0 -- when, in microseconds

local Place = {}
Place.__index = Place

function Place:leave()
  if self.left then return end
  self.left = true
  held = held - 1
  local others = held_of[self.name] - 1
  held_of[self.name] = others > 0 and others or nil
end
Place.__gc = Place.leave

local function is_full(name)
  return held >= most or (held_of[name] or 0) >= most_each
end

local function take_place(name)
  if is_full(name) and microseconds() - collected >= COLLECT_MS * 1000 then
    collectgarbage()
    collected = microseconds()
  end
  if is_full(name) then return nil end
  held, held_of[name] = held + 1, (held_of[name] or 0) + 1
  return setmetatable({name = name}, Place)
end

core.register_action("wake", {"http-req"}, function(txn)
  local name = txn:get_var("txn.key") or txn:get_var("txn.fn")
  local place = take_place(name)
  if not place then return refuse(txn, 503, "1", "too many requests are waiting for functions to wake\n") end
  hold(txn, name)
  place:leave()
end, 0)

-- The number of requests that this thread holds; the places of clients that left are collected first.
core.register_cli({"show", "holds"}, "show holds: requests held for a wake", function(applet)
  collectgarbage()
  applet:send(held .. "\n")
end)

-- Tells the controller that a slot has no room: "full SLOT\n". The answer, "again MILLISECONDS\n", is the pause before
-- the next such message. This runs for requests that are about to queue, and does not delay them: a separate task
-- talks to the controller.
local quiet_until = {} -- by slot, milliseconds; math.huge while the controller is being told
local telling = 0

local function milliseconds()
  local now = core.now()
  return now.sec * 1000 + now.usec // 1000
end

core.register_action("full", {"http-req"}, function(txn)
  local slot = txn:get_var("txn.slot")
  if telling >= MOST_TELLING or milliseconds() < (quiet_until[slot] or 0) then return end
  quiet_until[slot], telling = math.huge, telling + 1
  core.register_task(function()
    local told, line = pcall(ask, "full " .. slot, TELL_SECONDS)
    local again = told and line and string.match(line, "^again (%d+)$")
    quiet_until[slot], telling = milliseconds() + (tonumber(again) or UNTOLD_MS), telling - 1
  end)
end, 0)

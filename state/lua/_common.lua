-- What all scripts share.
-- KEYS[1]: the prefix of the account's keys. They are in one slot of a Redis Cluster, so names are
--   built from it.
-- ARGV[1]: a JSON object with the arguments by name.
-- Time is Redis's own, in microseconds since 1970. Such numbers go into text with `text`: Lua's own
-- form of them loses digits.
local prefix, arg = KEYS[1], cjson.decode(ARGV[1])

local function key(name)
  return prefix .. name
end

local function text(number)
  return string.format('%.0f', number)
end

local function redis_time()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A full Redis lets a script write only if the first thing that it writes needs no memory.
local function write_although_full()
  redis.call('DEL', key('nothing'))
end

-- A command with very many arguments: Lua unpacks some thousand at once.
local function in_slices(command, name, arguments)
  for first = 1, #arguments, 1000 do
    redis.call(command, name, unpack(arguments, first, math.min(first + 999, #arguments)))
  end
end

-- What time it is: `redis` is Redis's own; `account` and `later` are set by `read_clock`.
local now = { redis = redis_time() }

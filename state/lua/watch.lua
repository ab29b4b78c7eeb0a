-- watch: what nobody's step changes is noticed: a backlog that is too old, a circuit that has lapsed.
-- include: common clock events
-- arg: old_us (age of the oldest job or email that waits to be delivered)
-- Answers 1 if an event was noted, else 0.
read_clock()
local SURE_US = 5 * 1000000 -- so long it must have been so: a step of the clock is no backlog
local oldest, noted = nil, 0
for _, name in ipairs({ 'inbox:live', 'inbox:bulk', 'due:live', 'due:bulk', 'due:failing' }) do
  local since = tonumber(redis.call('ZRANGE', key(name), 0, 0, 'WITHSCORES')[2])
  if since then -- another language's publisher may write milliseconds
    since = since < 100000000000000 and since * 1000 or since
    oldest = math.min(oldest or since, since)
  end
end
local age_us = oldest and now.redis - oldest or 0
local circuit, old, told = unpack(redis.call('HMGET', key('watched'), 'circuit', 'old', 'told'))
if age_us < arg.old_us then
  if old then
    redis.call('HDEL', key('watched'), 'old', 'told')
  end
  if told then
    note_event('account.backlog_over', { since = told })
    noted = 1
  end
elseif not old then
  redis.call('HSET', key('watched'), 'old', text(now.account))
elseif not told and now.account - old >= SURE_US then
  redis.call('HSET', key('watched'), 'told', text(now.redis))
  note_event('account.backlog_old', { oldest_s = text(age_us / 1000000) })
  noted = 1
end
if circuit and redis.call('HEXISTS', key('circuit'), 'opened') == 0 then
  circuit_closed(circuit, 'it has lapsed: nothing was tried for two hours')
  noted = 1
end
return noted

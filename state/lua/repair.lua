-- repair: finds what nothing points to, among some of the account's keys.
-- include: common clock inbox mailbox
-- arg: mailboxes: ids; jobs: ids of the inbox; looking: whether to change nothing
-- Answers { mailboxes that stood nowhere and are due again, jobs of the inbox that had no arrival }.
read_clock(arg.looking)
local PLACES = { 'leases', 'later', 'due:live', 'due:bulk', 'due:failing' }

local function stands_somewhere(mailbox)
  for _, place in ipairs(PLACES) do
    if redis.call('ZSCORE', key(place), mailbox) then
      return true
    end
  end
end

local mailboxes, jobs = 0, 0
for _, mailbox in ipairs(arg.mailboxes) do
  -- A key of another type is nobody's mailbox: it costs that email only.
  if redis.pcall('HEXISTS', key('mailbox:' .. mailbox), '@next') == 1 and not stands_somewhere(mailbox) then
    if not arg.looking then
      make_due(mailbox, 0)
    end
    mailboxes = mailboxes + 1
  end
end

local taken = {}
for _, entry in ipairs(#arg.jobs > 0 and redis.call('ZRANGE', key('inbox:taken'), 0, -1) or {}) do
  taken[string.match(entry, '^%a+ %d+ (.*)$') or ''] = true
end
for _, job in ipairs(arg.jobs) do
  if redis.call('HEXISTS', key('inbox'), job) == 1 and not taken[job]
    and not redis.call('ZSCORE', key('inbox:live'), job) and not redis.call('ZSCORE', key('inbox:bulk'), job) then
    if not arg.looking then
      redis.call('ZADD', key('inbox:bulk'), text(math.max(now.redis, last_arrival(now.redis))), job)
    end
    jobs = jobs + 1
  end
end
if mailboxes + jobs > 0 and not arg.looking then
  redis.call('HINCRBY', key('repairs'), 'count', mailboxes + jobs)
  redis.call('HSET', key('repairs'), 'last', text(now.redis))
end
return { mailboxes, jobs }

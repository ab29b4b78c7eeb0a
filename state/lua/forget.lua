-- forget: an email's mailbox and history are gone, and its jobs that wait there are canceled. A request
-- under way keeps its place, and the email's next one waits for its end; its answer writes nothing.
-- include: common clock mailbox counts outcome forget
-- arg: mailbox, late_s (for so long a job is known as a late one that says it occurred before), retention_s, keep_s
-- Answers { ids of the jobs that were canceled, ids of the settled jobs of the history, how many of these
--   had anything to forget, how many delivered values were known, 1 if a request is under way }.
-- Safe to run twice: the second time there is nothing to forget.
write_although_full()
read_clock()
local box_key, email_key = key('mailbox:' .. arg.mailbox), key('email:' .. arg.mailbox)
for _, name in ipairs({ box_key, email_key }) do
  if redis.call('TYPE', name).ok ~= 'hash' then
    redis.call('DEL', name) -- something else wrote it
  end
end
local box, known = read_mailbox(arg.mailbox), redis.call('HGETALL', email_key)
local leased = redis.call('ZSCORE', key('leases'), arg.mailbox) and box.state.lease
local waiting, settled, values, changed = {}, {}, 0, 0
for _, job in pairs(box.jobs) do
  waiting[#waiting + 1] = job.id
end
for i = 1, #known, 2 do
  if string.match(known[i], '^@%d+$') then
    settled[#settled + 1] = known[i + 1]
  elseif string.sub(known[i], 1, 1) ~= '@' then
    values = values + 1
  end
end

for _, job in ipairs(settled) do
  if redis.call('EXISTS', key('outcome:' .. job)) == 1 and forget_job(job) then
    changed = changed + 1
  end
end
for _, job in ipairs(waiting) do
  forget_job(job)
end
if leased then
  local token = string.sub(leased, 1, #FORGOTTEN) == FORGOTTEN and leased or FORGOTTEN .. leased
  redis.call('DEL', box_key)
  redis.call('HSET', box_key, '@next', box.state.next or '1', '@lease', token)
else
  leave_place(arg.mailbox)
  remove_mailbox(arg.mailbox, (tonumber(box.state.rest) or 0) - now.account)
end
redis.call('DEL', email_key)
redis.call('SET', key('forgotten:' .. arg.mailbox), text(now.redis), 'EX', arg.late_s)
write_counts()
return { waiting, settled, changed, values, leased and 1 or 0 }

-- cancel: a job that was not sent is taken back: from the inbox, also where a worker has just taken it
-- to accept it, or from its mailbox. What it replaced there does not come back.
-- include: common clock inbox mailbox counts outcome
-- arg: job, mailbox (of its email; absent where that is not known), fields (of the outcome of a job in the
--   inbox, whose `job:<id>` is not there yet), retention_s, keep_s
-- Answers 'canceled', also where it was before; or, with nothing changed, 'settled' (otherwise); 'sending'
--   (a request for it is under way); 'attempted' (one was made, or may have been); 'again' (it is in
--   its mailbox, and arg.mailbox does not say which); 'unknown'.
-- Its entry in the mailbox, if that is not lost.
local function entry_in(box)
  for number, job in pairs(box.jobs) do
    if job.id == arg.job then
      job.number = number
      return job
    end
  end
end

-- Which version of each of its keys ChartMogul took last.
local function taken_versions(job)
  local found, versions = #job.keys > 0 and redis.call('HMGET', key('email:' .. arg.mailbox), unpack(job.keys)) or {}, {}
  for n, name in ipairs(job.keys) do
    versions[name] = found[n] and string.sub(found[n], 1, VERSION) or ''
  end
  return versions
end

-- A worker that died may have sent it: then its version is in `@sending`, or was noted as taken since.
-- A job that is replayed was sent before; what counts is the time since then.
local function may_be_taken(box, job, taken)
  if string.find(box.state.sending or '', job.version, 1, true) then
    return true
  end
  local replayed = redis.call('SISMEMBER', key('replays'), arg.job) == 1
  for _, version in pairs(taken) do
    if version == job.version and not replayed then
      return true
    end
  end
end

-- What it replaced does not come back; but nothing that is older than that may follow, while the jobs
-- that asked for it are under way.
local function note_replaced(box, taken)
  for _, other in pairs(box.jobs) do
    for name in string.gmatch(redis.call('HGET', key('job:' .. other.id), 'keys') or '', '[^,]+') do
      if taken[name] and other.version > taken[name] then
        taken[name] = other.version
        note_email(name, other.version .. '-')
      end
    end
  end
end

write_although_full()
local outcome = redis.call('GET', key('outcome:' .. arg.job))
if outcome then
  return cjson.decode(outcome).s == 'canceled' and 'canceled' or 'settled'
end
local attempts = redis.call('HMGET', key('job:' .. arg.job), 'email', 'attempts')
if not attempts[1] then
  if redis.call('HEXISTS', key('inbox'), arg.job) == 0 then
    return 'unknown'
  end
  arg.fields.reason = 'asked'
  settle_job(arg.job, arg.mailbox, 'canceled', arg.fields, leave_inbox_untaken(arg.job))
  write_email(arg.mailbox)
  write_counts()
  return 'canceled'
elseif not arg.mailbox then
  return 'again'
end
read_clock()
local box = read_mailbox(arg.mailbox)
local job = entry_in(box)
local leased = redis.call('ZSCORE', key('leases'), arg.mailbox)
if job and leased and string.find(box.state.sending or '', job.version, 1, true) then
  return 'sending'
end
local taken = job and taken_versions(job)
if (tonumber(attempts[2]) or 0) > 0 or job and may_be_taken(box, job, taken) then
  return 'attempted'
end
if job then
  redis.call('HDEL', key('mailbox:' .. arg.mailbox), '#' .. job.number, unpack(job.keys))
  box.jobs[job.number] = nil
  note_replaced(box, taken)
  if not leased and not next(box.jobs) then
    leave_place(arg.mailbox)
    remove_mailbox(arg.mailbox, (tonumber(box.state.rest) or 0) - now.account)
  end
end
settle_job(arg.job, arg.mailbox, 'canceled', { reason = 'asked' })
write_email(arg.mailbox)
write_counts()
return 'canceled'

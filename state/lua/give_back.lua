-- give_back: a claimed request was not sent, and its email is due as before.
-- include: common clock mailbox
-- arg: mailbox, token
-- Answers 1, or 0 when the lease had ended.
read_clock()
local box = key('mailbox:' .. arg.mailbox)
local lease = redis.call('HGET', box, '@lease')
if lease ~= arg.token and lease ~= FORGOTTEN .. arg.token then
  return 0
end
end_lease(arg.mailbox, true)
redis.call('HDEL', box, '@lease', '@sending')
redis.call('ZREM', key('ledger'), arg.token)
make_due(arg.mailbox, 0, nil, true)
return 1

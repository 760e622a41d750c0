-- Chooses the revision that serves a call of a function with split traffic; other calls never run this.
-- txn.split is "PERCENT:REVISION:KEY,...", with a sum of 100 %, as edge/config.py writes it.

core.register_action("split", {"http-req"}, function(txn)
  local left = txn.f:rand(100)
  for percent, revision, key in string.gmatch(txn:get_var("txn.split"), "(%d+):(%d+):([^,]+)") do
    left = left - tonumber(percent)
    if left < 0 then
      txn:set_var("txn.revision", revision)
      return txn:set_var("txn.key", key)
    end
  end
end, 0)

-- Which origin may read an answer: of "ORIGINS|ORIGIN", as haproxy.cfg.tmpl writes it, the second where it is one of the
-- first, which commas separate; "*" where that is all of them; else nothing. Runs for the platform's own answers alone.

core.register_converters("allowed_origin", function(text)
  local allowed, origin = string.match(text, "^([^|]*)|(.*)$")
  if allowed == "*" then return allowed end
  for one in string.gmatch(allowed or "", "[^,]+") do
    if one == origin then return one end
  end
  return ""
end)

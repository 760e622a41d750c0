-- The origin that may read a response, from "ORIGINS|ORIGIN", as haproxy.cfg.tmpl writes it: ORIGIN when it is in
-- ORIGINS, a comma-separated list; "*" when ORIGINS is "*"; else nothing. Runs only for responses of the platform
-- itself.

core.register_converters("allowed_origin", function(text)
  local allowed, origin = string.match(text, "^([^|]*)|(.*)$")
  if allowed == "*" then return allowed end
  for one in string.gmatch(allowed or "", "[^,]+") do
    if one == origin then return one end
  end
  return ""
end)

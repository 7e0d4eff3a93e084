# Copy this file to <environment>.tfvars, dev.tfvars for example, and fill in five variables. Then:
# make deploy ENV=dev. Deploying means that you agree to the subscriber agreement of Let's Encrypt
# (https://letsencrypt.org/repository/).

# The file's own name. Everything certloop makes is called certloop-<environment>.
environment = "dev"

# The Application Load Balancer, by name or by ARN. It needs a listener on port 80 (redirecting to
# HTTPS is fine) and one on 443. If nothing listens on 443 yet, say below where a new one must
# forward to.
load_balancer = "web"

# The names of the certificate. All of them must lead to this load balancer.
domains = ["shop.example.com", "www.shop.example.com"]

# The account's contact; alarms go there too.
email = "ops@example.com"

# false: Let's Encrypt's staging authority, for a first try: everything is real except that browsers
# do not trust the result. true: the production authority. Change it and deploy again; certloop then
# orders again.
production = false

# Rarely needed:
# account      = "123456789012" # refuses credentials of another account
# forward      = "web-servers" # name or ARN of the target group for the HTTPS listener that certloop makes
# priority     = 5             # of the rule for /.well-known/acme-challenge/* on port 80, if 1 is taken
# architecture = "x86_64"      # of the functions
# settings     = { proof = { mode = "require" } }   # further fields of settings.json

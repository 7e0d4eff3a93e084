environment    = "dev"
load_balancers = ["web-dev"]
email          = "ops@example.com"
production     = false

environment    = "dev"
account        = "111111111111"
load_balancers = ["web-dev"]
email          = "ops@example.com"
production     = false

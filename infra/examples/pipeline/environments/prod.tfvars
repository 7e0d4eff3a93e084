environment    = "prod"
load_balancers = ["web-prod"]
email          = "ops@example.com"
production     = true

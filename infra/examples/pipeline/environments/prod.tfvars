environment    = "prod"
account        = "333333333333"
load_balancers = ["web-prod"]
email          = "ops@example.com"
production     = true

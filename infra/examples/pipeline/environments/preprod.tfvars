environment    = "preprod"
load_balancers = ["web-preprod"]
email          = "ops@example.com"
production     = false

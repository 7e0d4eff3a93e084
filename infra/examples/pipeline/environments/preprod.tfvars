environment    = "preprod"
account        = "222222222222"
load_balancers = ["web-preprod"]
email          = "ops@example.com"
production     = false

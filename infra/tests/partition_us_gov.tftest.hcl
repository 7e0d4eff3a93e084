# The module in another partition: no ARN and no host name of the first one.

provider "aws" {
  region                      = "us-gov-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

override_data {
  target = data.aws_lb.this
  values = {
    arn                = "arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
    dns_name           = "web-1.us-gov-west-1.elb.amazonaws.com"
    load_balancer_type = "application"
  }
}

override_data {
  target = data.aws_lb_listener.http
  values = {
    arn      = "arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2"
    protocol = "HTTP"
  }
}

override_data {
  target = data.aws_lb_listener.target
  values = { protocol = "HTTPS" }
}

variables {
  packages                = "./tests/packages"
  contact                 = ["ops@example.com"]
  terms_of_service_agreed = true
  kms_key_arn             = "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  load_balancers          = { web = { arn = "arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188" } }
  pull                    = { shop = ["arn:aws-us-gov:iam::123456789012:role/nginx"] }
  certificates            = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", arn = "arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" }] } }
}

run "every_arn_is_of_the_partition" {
  command = plan

  assert {
    condition = alltrue([
      for policy in [
        aws_iam_role_policy.renew.policy,
        aws_iam_role_policy.challenge.policy,
        aws_iam_policy.operate.policy,
        aws_iam_policy.view.policy,
        aws_iam_policy.pull["shop"].policy,
        aws_iam_role.schedule.assume_role_policy,
        data.aws_iam_policy_document.bucket.json,
        data.aws_iam_policy_document.dead_letters.json,
        data.aws_iam_policy_document.schedule.json,
        data.aws_iam_policy_document.topic[0].json,
        data.aws_iam_policy_document.expiring.json,
        data.aws_iam_policy_document.expiring_trust.json,
      ] : !strcontains(policy, "arn:aws:") && strcontains(policy, "arn:aws-us-gov:")
    ])
    error_message = "A policy speaks of another partition."
  }

  assert {
    condition     = strcontains(aws_iam_role_policy.renew.policy, "\"s3.us-gov-west-1.amazonaws.com\"")
    error_message = "kms:ViaService: ${aws_iam_role_policy.renew.policy}"
  }

  assert {
    condition     = aws_s3_bucket.this.bucket == "certloop-123456789012-us-gov-west-1"
    error_message = "The bucket is called ${aws_s3_bucket.this.bucket}."
  }
}

# Every bad input is refused at plan, by its variable; and the words are checked.

provider "aws" {
  region                      = "eu-central-1"
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
    arn                = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
    dns_name           = "web-1.eu-central-1.elb.amazonaws.com"
    load_balancer_type = "application"
  }
}

override_data {
  target = data.aws_lb_listener.http
  values = {
    arn      = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2"
    protocol = "HTTP"
  }
}

override_data {
  target = data.aws_lb_listener.https
  values = {
    arn      = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/0123456789abcdef"
    protocol = "HTTPS"
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
}

run "a_name_with_capitals" {
  command = plan

  variables {
    name = "Certloop"
  }

  expect_failures = [var.name]
}

run "a_name_that_is_too_long" {
  command = plan

  variables {
    name = "certloop-certloop-certloop-certloop"
  }

  expect_failures = [var.name]
}

run "a_reserved_tag" {
  command = plan

  variables {
    tags = { "certloop:installation" = "x" }
  }

  expect_failures = [var.tags]
}

run "packages_that_are_not_there" {
  command = plan

  variables {
    packages = "./tests/nowhere"
  }

  expect_failures = [var.packages]
}

run "an_architecture_lambda_has_not" {
  command = plan

  variables {
    architecture = "arm"
  }

  expect_failures = [var.architecture]
}

run "a_malformed_contact" {
  command = plan

  variables {
    contact = ["ops@example.com", "ops example.com"]
  }

  expect_failures = [var.contact]
}

run "a_contact_with_mailto" {
  command = plan

  variables {
    contact = ["mailto:ops@example.com"]
  }

  expect_failures = [var.contact]
}

run "terms_not_agreed_to" {
  command = plan

  variables {
    terms_of_service_agreed = false
  }

  expect_failures = [var.terms_of_service_agreed]
}

run "a_directory_without_tls" {
  command = plan

  variables {
    directory = "http://acme.example.com/directory"
  }

  expect_failures = [var.directory]
}

run "an_unknown_setting" {
  command = plan

  variables {
    settings = { orders = {} }
  }

  expect_failures = [var.settings]
}

run "settings_that_are_no_object" {
  command = plan

  variables {
    settings = "x"
  }

  expect_failures = [var.settings]
}

run "a_private_key_as_root" {
  command = plan

  variables {
    settings = { authorities = { letsencrypt = { rootCertificate = "-----BEGIN PRIVATE KEY-----" } } }
  }

  expect_failures = [var.settings]
}

run "a_secret_in_place_of_its_arn" {
  command = plan

  variables {
    settings = { authorities = { letsencrypt = { externalAccount = { keyId = "k", secretArn = "c2VjcmV0" } } } }
  }

  expect_failures = [var.settings]
}

run "a_setting_that_is_not_built" {
  command = plan

  variables {
    settings = { roles = { other = {} } }
  }

  expect_failures = [var.settings]
}

run "a_topic_for_messages_twice" {
  command = plan

  variables {
    message_topic = true
    settings      = { notify = { topicArn = "arn:aws:sns:eu-central-1:123456789012:ops" } }
  }

  expect_failures = [var.message_topic]
}

run "a_webhook_s_address_in_place_of_its_secret" {
  command = plan

  variables {
    settings = { notify = { webhooks = [{ secretArn = "https://hooks.example.com/secret", format = "slack" }] } }
  }

  expect_failures = [var.settings]
}

run "a_local_operator_of_another_account" {
  command = plan

  variables {
    local_operators = ["arn:aws:iam::210987654321:role/pipeline"]
  }

  expect_failures = [var.local_operators]
}

run "all_that_the_functions_take" {
  command = plan

  variables {
    settings = {
      notify = {
        topicArn = null
        eventBus = "default"
        renewals = true
        webhooks = [
          { secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:slack-AbCdEf", format = "slack" },
          { secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:other-AbCdEf", format = "json" },
        ]
      }
      rehearse = "staging"
      fallback = { share = 0.2 }
      orphans  = "remove"
      dns      = { servers = ["192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:53"] }
      authorities = {
        letsencrypt = { private = null, caaIdentities = ["letsencrypt.org"], limits = null }
        staging     = { directory = "https://acme-staging-v02.api.letsencrypt.org/directory", termsOfServiceAgreed = true, contact = null, private = true }
        inside      = { directory = "https://acme.example.com:14000/@/directory", termsOfServiceAgreed = true, private = false }
      }
      defaults = { authority = null, keyType = "rsa-2048" }
      proof    = { mode = null }
      permit = {
        domains = ["*.example.com"]
        targets = ["arn:aws:elasticloadbalancing:*:listener/app/web/*", "arn:aws:elasticloadbalancing:*:targetgroup/web*", "arn:aws:acm:us-east-1:*"]
      }
    }
    certificates = {
      shop = {
        domains   = ["shop.example.com", "www.example.com"]
        authority = ["letsencrypt", "inside"]
        partial   = true
        targets = [
          { type = "certificateManager", region = "us-east-1" },
          { type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188", forward = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web_1/50dc6c495c0c9188" },
        ]
      }
    }
  }

  assert {
    condition = jsonencode(jsondecode(aws_s3_object.settings.content)) == jsonencode({
      notify = {
        eventBus = "default"
        renewals = true
        webhooks = [
          { secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:slack-AbCdEf", format = "slack" },
          { secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:other-AbCdEf", format = "json" },
        ]
      }
      rehearse = "staging"
      fallback = { share = 0.2 }
      orphans  = "remove"
      dns      = { servers = ["192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:53"] }
      authorities = {
        letsencrypt = { directory = "https://acme-v02.api.letsencrypt.org/directory", contact = ["mailto:ops@example.com"], termsOfServiceAgreed = true, caaIdentities = ["letsencrypt.org"], limits = null }
        staging     = { directory = "https://acme-staging-v02.api.letsencrypt.org/directory", termsOfServiceAgreed = true, private = true }
        inside      = { directory = "https://acme.example.com:14000/@/directory", termsOfServiceAgreed = true, private = false }
      }
      defaults = { authority = "letsencrypt", keyType = "rsa-2048" }
      proof    = {}
      permit = {
        domains = ["*.example.com"]
        targets = ["arn:aws:elasticloadbalancing:*:listener/app/web/*", "arn:aws:elasticloadbalancing:*:targetgroup/web*", "arn:aws:acm:us-east-1:*"]
      }
    })
    error_message = join(" ", [
      "The written settings are not the given ones without their nulls:",
      aws_s3_object.settings.content,
    ])
  }

  assert {
    condition = (
      jsondecode(aws_s3_object.certificates["shop"].content).partial &&
      jsonencode(jsondecode(aws_s3_object.certificates["shop"].content).authority) == jsonencode(["letsencrypt", "inside"])
    )
    error_message = "The document is another than the given one."
  }
}

run "certificates_that_are_no_object" {
  command = plan

  variables {
    certificates = ["shop"]
  }

  expect_failures = [var.certificates]
}

run "an_empty_domain_list" {
  command = plan

  variables {
    certificates = { shop = { domains = [], targets = [] } }
  }

  expect_failures = [var.certificates]
}

run "no_domain_list" {
  command = plan

  variables {
    certificates = { shop = { targets = [] } }
  }

  expect_failures = [var.certificates]
}

run "a_malformed_domain" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com", "shop_example.com"], targets = [] } }
  }

  expect_failures = [var.certificates]
}

run "an_unknown_field" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [], domain = "x" } }
  }

  expect_failures = [var.certificates]
}

run "a_wrong_target_type" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "cloudfront" }] } }
  }

  expect_failures = [var.certificates]
}

run "a_load_balancer_as_listener" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188" }] } }
  }

  expect_failures = [var.certificates]
}

run "a_listener_of_another_account" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:210987654321:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" }] } }
  }

  expect_failures = [var.certificates]
}

run "a_new_listener_without_a_target_group" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188" }] } }
  }

  expect_failures = [var.certificates]
}

run "a_document_with_a_bad_name" {
  command = plan

  variables {
    certificates = { "Shop" = { domains = ["shop.example.com"], targets = [] } }
  }

  expect_failures = [var.certificates]
}

run "too_many_names_for_the_profile" {
  command = plan

  variables {
    certificates = { shop = { domains = [for n in range(26) : "n${n}.example.com"], targets = [], profile = "shortlived" } }
  }

  expect_failures = [var.certificates]
}

run "a_domain_that_is_not_permitted" {
  command = plan

  variables {
    settings     = { permit = { domains = ["*.example.org", "shop.example.com"] } }
    certificates = { shop = { domains = ["shop.example.com", "a.b.example.org", "www.example.com"], targets = [] } }
  }

  expect_failures = [var.certificates]
}

run "a_target_that_is_not_permitted" {
  command = plan

  variables {
    settings     = { permit = { targets = ["*:listener/app/web/*"] } }
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "certificateManager" }] } }
  }

  expect_failures = [var.certificates]
}

run "a_certificate_that_may_not_be_superseded" {
  command = plan

  variables {
    settings     = { permit = { domains = ["*.example.com"] } }
    certificates = { shop = { domains = ["shop.example.com"], targets = [], supersedes = ["arn:aws:acm:eu-west-1:123456789012:certificate/a"] } }
  }

  expect_failures = [var.certificates]
}

run "a_certificate_that_may_be_superseded" {
  command = plan

  variables {
    settings = {
      permit = { domains = ["*.example.com"], supersedes = ["arn:aws:acm:eu-west-1:*"] }
      limits = { certificatesPerLoadBalancer = 100 }
    }
    certificates = { shop = { domains = ["shop.example.com"], targets = [], supersedes = ["arn:aws:acm:eu-west-1:123456789012:certificate/a"] } }
  }
}

run "domains_that_are_permitted" {
  command = plan

  variables {
    settings     = { permit = { domains = ["*.example.org", "shop.example.com"] } }
    certificates = { shop = { domains = ["Shop.example.com", "a.b.example.org"], targets = [] } }
  }
}

run "a_new_listener_that_forwards_to_another_region" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188", forward = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/50dc6c495c0c9188" }] } }
  }

  expect_failures = [var.certificates]
}

run "an_authority_nobody_described" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [], authority = "zerossl" } }
  }

  expect_failures = [var.certificates]
}

run "a_load_balancer_without_arn_or_name" {
  command = plan

  variables {
    load_balancers = { web = {} }
  }

  expect_failures = [var.load_balancers]
}

run "a_load_balancer_with_arn_and_name" {
  command = plan

  variables {
    load_balancers = { web = { name = "web", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188" } }
  }

  expect_failures = [var.load_balancers]
}

run "a_network_load_balancer_s_arn" {
  command = plan

  variables {
    load_balancers = { web = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/web/50dc6c495c0c9188" } }
  }

  expect_failures = [var.load_balancers]
}

run "a_priority_beyond_elb_s" {
  command = plan

  variables {
    load_balancers = { web = { name = "web", priority = 0 } }
  }

  expect_failures = [var.load_balancers]
}

run "one_priority_twice_on_one_load_balancer" {
  command = plan

  variables {
    load_balancers = { web = { name = "web" }, again = { name = "web" } }
  }

  expect_failures = [var.load_balancers]
}

run "a_schedule_in_words" {
  command = plan

  variables {
    schedule = "every ten minutes"
  }

  expect_failures = [var.schedule]
}

run "a_schedule_slower_than_its_alarm" {
  command = plan

  variables {
    schedule = "rate(31 minutes)"
  }

  expect_failures = [var.schedule]
}

run "a_schedule_of_hours_with_alarms" {
  command = plan

  variables {
    schedule = "rate(1 hour)"
  }

  expect_failures = [var.schedule]
}

run "a_former_key_s_alias" {
  command = plan

  variables {
    former_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:alias/x"]
  }

  expect_failures = [var.former_kms_key_arns]
}

run "a_vault_that_forgets_keys_in_use" {
  command = plan

  variables {
    vault_days = 60
  }

  expect_failures = [var.vault_days]
}

run "a_listener_looked_up_in_the_wrong_region" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" }] } }
  }

  expect_failures = [data.aws_lb_listener.target]
}

run "a_window_beyond_a_day" {
  command = plan

  variables {
    flexible_window_minutes = 1441
  }

  expect_failures = [var.flexible_window_minutes]
}

run "a_key_s_alias" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/x"
  }

  expect_failures = [var.kms_key_arn]
}

run "a_key_while_keys_are_off" {
  command = plan

  variables {
    kms         = false
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd"
  }

  expect_failures = [var.kms_key_arn]
}

run "anybody_pulling" {
  command = plan

  variables {
    pull = { shop = ["*"] }
  }

  expect_failures = [var.pull]
}

run "a_principal_of_another_account" {
  command = plan

  variables {
    pull = { shop = ["arn:aws:iam::210987654321:role/nginx"] }
  }

  expect_failures = [var.pull]
}

run "a_timeout_beyond_lambda_s" {
  command = plan

  variables {
    renew_timeout = 901
  }

  expect_failures = [var.renew_timeout]
}

run "a_topic_by_name" {
  command = plan

  variables {
    topic_arn = "ops"
  }

  expect_failures = [var.topic_arn]
}

run "a_malformed_alarm_address" {
  command = plan

  variables {
    alarm_emails = ["ops@"]
  }

  expect_failures = [var.alarm_emails]
}

run "addresses_for_a_topic_of_others" {
  command = plan

  variables {
    topic_arn    = "arn:aws:sns:eu-central-1:123456789012:ops"
    alarm_emails = ["ops@example.com"]
  }

  expect_failures = [var.alarm_emails]
}

run "a_share_in_per_cent" {
  command = plan

  variables {
    alarms = { lifetime_share = 25 }
  }

  expect_failures = [var.alarms]
}

run "half_a_certificate_fewer" {
  command = plan

  variables {
    alarms = { managed_fall = 0.5 }
  }

  expect_failures = [var.alarms]
}

run "an_environment_of_ours" {
  command = plan

  variables {
    environment = { CERTLOOP_BUCKET = "x" }
  }

  expect_failures = [var.environment]
}

run "a_target_that_speaks_http" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" }] } }
  }

  override_data {
    target = data.aws_lb_listener.target
    values = { protocol = "HTTP", port = 80 }
  }

  expect_failures = [data.aws_lb_listener.target]
}

run "https_on_a_listener_that_speaks_http" {
  command = plan

  variables {
    load_balancers = { web = { name = "web", https = true } }
  }

  override_data {
    target = data.aws_lb_listener.https
    values = { protocol = "HTTP" }
  }

  expect_failures = [data.aws_lb_listener.https]
}

run "http_on_a_listener_that_speaks_https" {
  command = plan

  variables {
    load_balancers = { web = { name = "web", http_port = 443 } }
  }

  override_data {
    target = data.aws_lb_listener.http
    values = { protocol = "HTTPS" }
  }

  expect_failures = [data.aws_lb_listener.http]
}

run "a_network_load_balancer_s_name" {
  command = plan

  variables {
    load_balancers = { web = { name = "web", challenge = false } }
  }

  override_data {
    target = data.aws_lb.this
    values = { load_balancer_type = "network", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/web/50dc6c495c0c9188" }
  }

  expect_failures = [data.aws_lb.this]
}

# expect_failures names the variable, not the words.
run "the_words_name_the_field_and_the_remedy" {
  command = plan

  assert {
    condition = trimspace(templatefile("./refusals/certificates.tftpl", { settings = var.settings, certificates = {
      shop = { domains = ["shop.example.com", "shop_example", "*.example.com", "192.0.2.1", "SHOP.example.com."], targets = [], keyType = "rsa", authority = ["a", "letsencrypt", "letsencrypt"], partial = "no", paused = "no", tags = { "aws:x" = "y" } }
      } })) == join("\n", [
      "certificates.shop.domains[1]: \"shop_example\" is no DNS name that can be ordered: it has an underscore, which no certificate may hold.",
      "certificates.shop.domains[2]: \"*.example.com\" is no DNS name that can be ordered: it is a wildcard, which http-01 cannot validate, and dns-01 is not yet supported; list the names one by one.",
      "certificates.shop.domains[3]: \"192.0.2.1\" is no DNS name that can be ordered: it is an IP address, which is not yet supported.",
      "certificates.shop.domains[4]: \"SHOP.example.com.\" is given twice: remove one of the two.",
      "certificates.shop.authority[0]: \"a\" is not an authority: use one of letsencrypt, or add it to settings.authorities.",
      "certificates.shop.authority[2]: \"letsencrypt\" is given twice: remove one of the two.",
      "certificates.shop.keyType: \"rsa\" is not known here: use one of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096.",
      "certificates.shop.partial: has the wrong type: give true or false.",
      "certificates.shop.paused: has the wrong type: give true or false.",
      "certificates.shop.tags.aws:x: begins with certloop: or aws:, which are reserved: use another key.",
    ])
    error_message = "The words of refusals/certificates.tftpl are others."
  }

  assert {
    condition = trimspace(templatefile("./refusals/targets.tftpl", { account = local.account, settings = { permit = { targets = ["arn:aws:elasticloadbalancing:*:listener/*", "arn:aws:acm:*"] } }, certificates = {
      shop = { targets = [
        { type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" },
        { type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3", as = "first" },
        { type = "certificateManager", region = "Frankfurt", arn = "x" },
        { type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188", port = 0 },
        { type = "listener" },
        { type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188", port = 80, forward = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web/50dc6c495c0c9188" },
      ] }
      bare = {}
      } })) == join("\n", [
      "certificates.bare.targets: is missing: list where the certificate goes; [] keeps it in the vault only.",
      "certificates.shop.targets[1].as: \"first\" is not known here: use one of sni, default.",
      "certificates.shop.targets[1]: is the same target as targets[0]: remove one of the two.",
      "certificates.shop.targets[2].arn: belongs to a listener target, and this one is a certificateManager: remove it.",
      "certificates.shop.targets[2].region: \"Frankfurt\" is not the name of a region: write one such as us-east-1, or leave it out for the function's own.",
      "certificates.shop.targets[3].forward: is missing: give the target group that the new listener must forward to.",
      "certificates.shop.targets[3].port: 0 is no port: give a whole number from 1 to 65535, or leave it out for 443.",
      "certificates.shop.targets[4].arn: is missing: add the ARN of the listener, or loadBalancer and forward to let certloop create one.",
      "certificates.shop.targets[5].port: is 80, which stays plain HTTP: authorities start on it to validate a name; give another, such as 443.",
      "certificates.shop.targets[5].forward: arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web/50dc6c495c0c9188 is not permitted by settings.permit.targets: remove it here, or add a pattern there.",
    ])
    error_message = "The words of refusals/targets.tftpl are others."
  }

  assert {
    condition = join("\n", [
      for end in ["", "-AbCdEf"] : trimspace(templatefile("./refusals/settings.tftpl", { settings = { authorities = { letsencrypt = { externalAccount = { keyId = "k", secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:eab${end}" } } } } }))
    ]) == "settings.authorities.letsencrypt.externalAccount.secretArn: lacks the six characters that Secrets Manager puts at the end, such as -AbCdEf, and renew's role is bound to the whole ARN: give it as aws secretsmanager describe-secret says it.\n${var.terms_of_service_agreed ? "" : "-"}"
    error_message = "The words on half a secret's ARN are others."
  }

  assert {
    condition = var.terms_of_service_agreed && trimspace(templatefile("./refusals/settings.tftpl", { settings = {
      limits = { importsPerYear = 0 }
      authorities = {
        a = merge({ directory = "https://a.example/directory", termsOfServiceAgreed = true }, { limits = "zerossl" })
        b = merge({ directory = "https://b.example/directory", termsOfServiceAgreed = true }, { limits = { ordersPerHour = 3, ordersPerAccount = 3 } })
        c = merge({ directory = "https://c.example/directory", termsOfServiceAgreed = true }, { limits = { certificatesPerDomain = { count = 0, hours = 1 }, certificatesPerNameSet = { count = 1000001, seconds = 1.5 } } })
      }
      } })) == join("\n", [
      "settings.authorities.a.limits: \"zerossl\" is not a preset: use \"letsencrypt\", write the limits themselves ({ ordersPerAccount = { count = 300, seconds = 10800 } }), or null for none.",
      "settings.authorities.b.limits.ordersPerAccount: has the wrong type: give an object, such as { count = 300, seconds = 10800 }.",
      "settings.authorities.b.limits.ordersPerHour: is not a known field: remove it or correct its name; known here: ordersPerAccount, certificatesPerDomain, certificatesPerNameSet, failedValidationsPerName.",
      "settings.authorities.c.limits.certificatesPerDomain.hours: is not a known field: remove it or correct its name; known here: count, seconds.",
      "settings.authorities.c.limits.certificatesPerDomain.count: is 0: give a whole number from 1 to 1000000.",
      "settings.authorities.c.limits.certificatesPerDomain.seconds: is missing: give a whole number from 1 to 31536000.",
      "settings.authorities.c.limits.certificatesPerNameSet.count: is 1000001: give a whole number from 1 to 1000000.",
      "settings.authorities.c.limits.certificatesPerNameSet.seconds: is 1.5: give a whole number from 1 to 31536000.",
      "settings.limits.importsPerYear: is 0: give a whole number from 1 to 1000000.",
    ])
    error_message = "The words on limits are others."
  }

  assert {
    condition = var.terms_of_service_agreed && alltrue([
      for limits in [jsonencode(null), jsonencode("letsencrypt"), jsonencode({}), jsonencode({ ordersPerAccount = null, failedValidationsPerName = { count = 1000000, seconds = 31536000 } })] :
      trimspace(templatefile("./refusals/settings.tftpl", { settings = { authorities = { letsencrypt = { limits = jsondecode(limits) } }, limits = { importsPerYear = 1000000 } } })) == ""
    ])
    error_message = "Limits that the functions accept are refused."
  }

  assert {
    condition = var.terms_of_service_agreed && trimspace(templatefile("./refusals/settings.tftpl", { settings = {
      rehearse = "staging"
      fallback = { share = 2 }
      orphans  = "keep"
      dns      = { servers = ["192.0.2.53:0", "dns.example"] }
      authorities = {
        letsencrypt = { private = "yes", caaIdentities = ["letsencrypt.org", "a..b"] }
      }
      roles = { other = {} }
      } })) == join("\n", [
      "settings.authorities.letsencrypt.caaIdentities[1]: \"a..b\" is not a domain: write it as CAA records do, such as letsencrypt.org.",
      "settings.authorities.letsencrypt.private: has the wrong type: give true or false.",
      "settings.rehearse: \"staging\" is not an authority: use one of letsencrypt, or add it to settings.authorities.",
      "settings.fallback.share: is 2: give a share of the lifetime between 0 and 1.",
      "settings.orphans: \"keep\" is not known here: use one of report, remove.",
      "settings.dns.servers[0]: \"192.0.2.53:0\" is not the address of a server: write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53.",
      "settings.dns.servers[1]: \"dns.example\" is not the address of a server: write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53.",
      "settings.roles: is not yet supported: leave it out.",
    ])
    error_message = "The words on the fields of the second authority are others."
  }

  assert {
    condition = var.terms_of_service_agreed && trimspace(templatefile("./refusals/settings.tftpl", { settings = {
      notify = {
        topic    = "ops"
        topicArn = "arn:aws:sns:eu-central-1:123456789012:ops.fifo"
        eventBus = "arn:aws:events:eu-central-1:123456789012:rule/x"
        renewals = "yes"
        webhooks = [
          { secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:slack", format = "irc" },
          { secretArn = "https://hooks.example.com/T0/B0/x", url = "https://hooks.example.com/T0/B0/x" },
          { secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:teams-AbCdEf", format = "teams" },
        ]
      }
      } })) == join("\n", [
      "settings.notify.topic: is not a known field: remove it or correct its name; known here: eventBus, renewals, topicArn, webhooks.",
      "settings.notify.topicArn: is not the ARN of an SNS topic: give arn:aws:sns:<region>:<account>:<name>, and no FIFO topic, or set message_topic for the topic of the alarms.",
      "settings.notify.eventBus: is not an event bus: give its name, such as default, or its ARN, arn:aws:events:<region>:<account>:event-bus/<name>.",
      "settings.notify.renewals: has the wrong type: give true or false.",
      "settings.notify.webhooks[0].format: \"irc\" is not known here: use one of slack, teams, mattermost, json.",
      "settings.notify.webhooks[0].secretArn: lacks the six characters that Secrets Manager puts at the end, such as -AbCdEf, and renew's role is bound to the whole ARN: give it as aws secretsmanager describe-secret says it.",
      "settings.notify.webhooks[1].url: is not a known field: remove it or correct its name; known here: secretArn, format.",
      "settings.notify.webhooks[1].format: is missing: use one of slack, teams, mattermost, json.",
      "settings.notify.webhooks[1].secretArn: is not the ARN of a secret in AWS Secrets Manager: store the webhook's address there and give its ARN, arn:aws:secretsmanager:<region>:<account>:secret:...",
    ])
    error_message = join(" ", [
      "The words on messages are others:",
      "${templatefile("./refusals/settings.tftpl", { settings = { notify = { webhooks = "x" } } })}",
    ])
  }

  # A secret given in place of its ARN is not repeated.
  assert {
    condition = (
      var.terms_of_service_agreed &&
      !strcontains(templatefile("./refusals/settings.tftpl", { settings = { authorities = { letsencrypt = { externalAccount = { keyId = "k", secretArn = "c2VjcmV0" } } } } }), "c2VjcmV0")
    )
    error_message = "The secret is repeated."
  }
}

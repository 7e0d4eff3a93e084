# settings.json and the documents in var.certificates. Each has its own object, so documents that
# others put beside them are left alone.

locals {
  # A null field counts as a field that was not given: typed inputs with optional fields have them.
  # One exception: null limits of an authority mean no limits, not the authority's defaults.
  given_authorities = {
    for key, authority in merge(try(var.settings.authorities, {}), {}) :
    key => { for field, value in authority : field => value if value != null || field == "limits" }
  }
  given_settings = {
    for section, value in var.settings : section => try({ for field, inner in value : field => inner if inner != null }, value)
    if value != null
  }

  # authorities.letsencrypt and defaults are merged one level deep, so that you can add a field
  # without repeating the others.
  settings = merge(
    local.given_settings,
    {
      authorities = merge(
        local.given_authorities,
        {
          letsencrypt = merge(
            {
              directory            = var.directory
              contact              = [for address in var.contact : "mailto:${address}"]
              termsOfServiceAgreed = var.terms_of_service_agreed
            },
            try(local.given_authorities.letsencrypt, {}),
          )
        },
      )
      defaults = merge({ authority = "letsencrypt" }, try(local.given_settings.defaults, {}))
    },
    { for section in ["notify"] : section => merge(try(local.given_settings.notify, {}), { topicArn = local.message_topic_arn }) if var.message_topic },
  )

  documents = {
    for name, document in var.certificates : name => merge(
      { for field, value in document : field => value if value != null && field != "targets" },
      { targets = [for target in document.targets : { for field, value in target : field => value if value != null }] },
    )
  }

  # The plan looks up listeners to find ARNs with typing errors. ELB allows few calls a second, so
  # it looks up only the first fifty.
  listener_targets = merge([
    for name, document in var.certificates : {
      # Test the fields' names: try() and can() of an unknown value are unknown too.
      for i, target in document.targets : "${name}.targets[${i}]" => target
      if target.type == "listener" && contains(keys(target), "arn") && !contains(keys(target), "loadBalancer")
    }
  ]...)
  looked_up = var.look_up_listeners ? slice(keys(local.listener_targets), 0, min(50, length(local.listener_targets))) : []
}

data "aws_lb_listener" "target" { # not found? See certificates.<name>.targets[<n>].arn
  for_each = toset(local.looked_up)
  arn      = local.listener_targets[each.key].arn

  lifecycle {
    precondition {
      condition = element(split(":", local.listener_targets[each.key].arn), 3) == local.region
      error_message = join(" ", [
        "certificates.${each.key}.arn: ${local.listener_targets[each.key].arn} is in another",
        "region than ${local.region}, where the plan would look it up: set look_up_listeners to",
        "false; then only renew looks at it.",
      ])
    }
    postcondition {
      condition = self.protocol == "HTTPS"
      error_message = join(" ", [
        "certificates.${each.key}.arn: ${self.arn} speaks ${self.protocol} on port ${self.port},",
        "not HTTPS, and holds no certificates: give the ARN of the HTTPS listener.",
      ])
    }
  }
}

# If S3 encrypts an object with its own key, the ETag is the MD5 of the content. So a plan sees
# changes by others.

# A function must understand its settings: first the new code, then its settings.
resource "aws_s3_object" "settings" {
  bucket       = aws_s3_bucket.this.id
  key          = "settings.json"
  content      = jsonencode(local.settings)
  etag         = md5(jsonencode(local.settings))
  content_type = "application/json"

  # S3 accepts ten tags on an object, and fifty on everything else.
  override_provider {
    default_tags {
      tags = {}
    }
  }

  depends_on = [
    aws_lambda_function.challenge,
    aws_lambda_function.renew,
    aws_s3_bucket_ownership_controls.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
    aws_s3_bucket_versioning.this,
    aws_sns_topic.this,
  ]
}

# Each of these starts a pass within seconds. That pass needs the complete route to the authority
# and back.
resource "aws_s3_object" "certificates" {
  for_each     = var.certificates
  bucket       = aws_s3_bucket.this.id
  key          = "certificates/${each.key}.json"
  content      = jsonencode(local.documents[each.key])
  etag         = md5(jsonencode(local.documents[each.key]))
  content_type = "application/json"

  # S3 accepts ten tags on an object, and fifty on everything else.
  override_provider {
    default_tags {
      tags = {}
    }
  }

  depends_on = [
    aws_cloudformation_stack.function_url,
    aws_cloudwatch_event_target.document,
    aws_lambda_function_event_invoke_config.renew,
    aws_lb_listener_rule.http,
    aws_lb_listener_rule.https,
    aws_s3_bucket_notification.this,
    aws_s3_bucket_policy.this,
    aws_s3_object.settings,
    data.aws_lb_listener.target,
  ]
}

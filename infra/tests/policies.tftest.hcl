# Who may do what, read from the rendered policies. Planned with the real provider, because a mocked
# one would invent the policies too; its questions to AWS are answered below, so no credentials are
# needed.

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
  target = data.aws_lb_listener.target
  values = { protocol = "HTTPS" }
}

variables {
  packages                = "./tests/packages"
  contact                 = ["ops@example.com"]
  terms_of_service_agreed = true
  kms_key_arn             = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  load_balancers          = { web = { name = "web" } }
  pull                    = { shop = ["arn:aws:iam::123456789012:role/nginx"] }

  certificates = {
    shop = {
      domains = ["shop.example.com"]
      targets = [
        { type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/api/0123456789abcdef/f2f7dc8efc522ab2" },
        { type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/new/fedcba9876543210", forward = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/site/0123456789abcdef" },
      ]
    }
  }

  settings = {
    authorities = {
      other = {
        directory            = "https://acme.example.com/directory"
        termsOfServiceAgreed = true
        externalAccount      = { keyId = "k", secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:eab-AbCdEf" }
      }
    }
  }
}

run "renew_may_do_exactly_this" {
  command = plan

  assert {
    condition = jsonencode({ for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement.Sid => sort(flatten([statement.Action])) }) == jsonencode({
      Log                   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      ReadObjects           = ["s3:GetObject"]
      WriteObjects          = ["s3:PutObject"]
      DeleteObjects         = ["s3:DeleteObject"]
      ListObjects           = ["s3:ListBucket"]
      EncryptSecrets        = ["kms:Decrypt", "kms:GenerateDataKey"]
      ImportNewCertificates = ["acm:ImportCertificate"]
      TagNewCertificates    = ["acm:AddTagsToCertificate"]
      ChangeOurCertificates = ["acm:DeleteCertificate", "acm:ImportCertificate", "acm:RemoveTagsFromCertificate"]
      ReadCertificates      = ["acm:DescribeCertificate", "acm:GetCertificate", "acm:ListTagsForCertificate"]
      ListCertificates      = ["acm:ListCertificates"]
      ReadLoadBalancers     = ["elasticloadbalancing:DescribeListenerCertificates", "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeLoadBalancers", "elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTargetGroups"]
      ReadWebAcls           = ["wafv2:GetWebACL", "wafv2:GetWebACLForResource"]
      ChangeListeners       = ["elasticloadbalancing:AddListenerCertificates", "elasticloadbalancing:ModifyListener", "elasticloadbalancing:RemoveListenerCertificates"]
      CreateListeners       = ["elasticloadbalancing:CreateListener"]
      TagNewListeners       = ["elasticloadbalancing:AddTags"]
      ReadSecrets           = ["secretsmanager:GetSecretValue"]
    })
    error_message = "Another set of calls: ${aws_iam_role_policy.renew.policy}"
  }

  assert {
    condition = join(" ", [
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement.Sid
      if contains(flatten([statement.Resource]), "*")
    ]) == "ListCertificates ReadLoadBalancers"
    error_message = "Only what knows no resource may be asked of all."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement :
      contains(values(try(statement.Condition.StringEquals, {})), "certloop-123456789012-eu-central-1")
      if contains(["ImportNewCertificates", "TagNewCertificates", "ChangeOurCertificates", "CreateListeners", "TagNewListeners"], statement.Sid)
    ])
    error_message = "A change of a certificate, or a new listener, is not bound to our tag."
  }

  assert {
    condition = sort(flatten([
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement.Resource if statement.Sid == "ChangeListeners"
      ])) == sort([
      "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/*",
      "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/api/0123456789abcdef/*",
      "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/new/fedcba9876543210/*",
    ])
    error_message = join(" ", [
      "Other listeners than those of the load balancers that were named:",
      jsonencode(local.listener_arns),
    ])
  }

  # A new listener must say HTTPS. A change that says anything else is not allowed; one that says
  # nothing is.
  assert {
    condition = jsonencode({
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement.Sid => { for test, keys in statement.Condition : test => keys if startswith(test, "For") }
      if contains(["ChangeListeners", "CreateListeners"], statement.Sid)
      }) == jsonencode({
      ChangeListeners = { "ForAllValues:StringEquals" = { "elasticloadbalancing:ListenerProtocol" = "HTTPS" } }
      CreateListeners = { "ForAnyValue:StringEquals" = { "elasticloadbalancing:ListenerProtocol" = "HTTPS" } }
    })
    error_message = "A listener could be made or left without TLS: ${aws_iam_role_policy.renew.policy}"
  }

  assert {
    condition = join(" ", flatten([
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : [statement.Resource] if statement.Sid == "ReadSecrets"
    ])) == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:eab-AbCdEf"
    error_message = "Exactly the secrets that the settings name."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement :
      toset(statement.Condition.StringLike["kms:EncryptionContext:aws:s3:arn"]) == toset([
        "arn:aws:s3:::certloop-123456789012-eu-central-1/accounts/*",
        "arn:aws:s3:::certloop-123456789012-eu-central-1/vault/*",
      ]) && statement.Condition.StringEquals["kms:ViaService"] == "s3.eu-central-1.amazonaws.com"
      if statement.Sid == "EncryptSecrets"
    ])
    error_message = "The key is for the secrets of this bucket, through S3."
  }

  assert {
    condition = sort(flatten([
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : [statement.Resource] if contains(["ReadObjects"], statement.Sid)
      ])) == sort([
      for key in ["settings.json", "certificates/*", "state/*", "accounts/*", "limits/*", "vault/*"] : "arn:aws:s3:::certloop-123456789012-eu-central-1/${key}"
    ])
    error_message = "renew writes tokens and need not read them."
  }

  assert {
    condition = sort(flatten([
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : [statement.Resource] if contains(["WriteObjects"], statement.Sid)
      ])) == sort([
      for key in ["certificates/*", "state/*", "accounts/*", "limits/*", "vault/*", "challenges/*"] : "arn:aws:s3:::certloop-123456789012-eu-central-1/${key}"
    ])
    error_message = "renew never writes its own settings."
  }
}

run "challenge_may_read_tokens_and_write_its_log" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role_policy.challenge.policy).Statement == [
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:PutLogEvents", "logs:CreateLogStream"]
        Resource = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/certloop-challenge:*"
      },
      {
        Sid      = "ReadTokens"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "arn:aws:s3:::certloop-123456789012-eu-central-1/challenges/*"
      },
    ]
    error_message = "Something else: ${aws_iam_role_policy.challenge.policy}"
  }

  assert {
    condition     = !contains(keys(aws_lambda_function.challenge.environment[0].variables), "CERTLOOP_KMS_KEY_ARN")
    error_message = "challenge knows of a key."
  }
}

run "nothing_is_allowed_by_wildcard" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for policy in [
        aws_iam_role_policy.renew.policy,
        aws_iam_role_policy.challenge.policy,
        aws_iam_policy.operate.policy,
        aws_iam_policy.edit.policy,
        aws_iam_policy.view.policy,
        aws_iam_policy.doctor.policy,
        aws_iam_policy.pull["shop"].policy,
        data.aws_iam_policy_document.schedule.json,
        data.aws_iam_policy_document.expiring.json,
        data.aws_iam_policy_document.dead_letters.json,
        data.aws_iam_policy_document.topic[0].json,
        data.aws_iam_policy_document.bucket.json,
        ] : [
        for statement in jsondecode(policy).Statement : [
          for action in flatten([try(statement.Action, [])]) : statement.Effect == "Deny" || !strcontains(action, "*")
        ]
      ]
    ]))
    error_message = "An action is allowed by wildcard."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(data.aws_iam_policy_document.bucket.json).Statement :
      statement.Effect == "Deny"
    ])
    error_message = "The bucket's policy grants something; it must only deny."
  }
}

# EventBridge gives SNS nothing that a condition could check, so no statement of the topic's may
# name it.
run "only_alarms_of_this_account_and_one_rule_reach_the_topic" {
  command = plan

  assert {
    condition = jsonencode([
      for statement in jsondecode(data.aws_iam_policy_document.topic[0].json).Statement :
      [statement.Effect, statement.Principal, statement.Action, statement.Resource, try(statement.Condition, null)]
      ]) == jsonencode([
      ["Allow", { Service = "cloudwatch.amazonaws.com" }, "sns:Publish", "arn:aws:sns:eu-central-1:123456789012:certloop-alarms", { StringEquals = { "aws:SourceAccount" = "123456789012" } }],
    ])
    error_message = "Something else: ${data.aws_iam_policy_document.topic[0].json}"
  }

  assert {
    condition = jsonencode([
      for statement in jsondecode(aws_iam_role.expiring[0].assume_role_policy).Statement :
      [statement.Principal, statement.Action, try(statement.Condition, null)]
      ]) == jsonencode([
      [
        { Service = "events.amazonaws.com" },
        "sts:AssumeRole",
        {
          ArnEquals    = { "aws:SourceArn" = "arn:aws:events:eu-central-1:123456789012:rule/${aws_cloudwatch_event_rule.expiring[0].name}" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        },
      ],
    ])
    error_message = "Something else: ${aws_iam_role.expiring[0].assume_role_policy}"
  }

  assert {
    condition = jsonencode([
      for statement in jsondecode(aws_iam_role_policy.expiring[0].policy).Statement :
      [statement.Effect, statement.Action, statement.Resource]
    ]) == jsonencode([["Allow", "sns:Publish", "arn:aws:sns:eu-central-1:123456789012:certloop-alarms"]])
    error_message = "Something else: ${aws_iam_role_policy.expiring[0].policy}"
  }

  # What it refuses would be lost without a word.
  assert {
    condition = toset(jsondecode(data.aws_iam_policy_document.dead_letters.json).Statement[0].Condition.ArnEquals["aws:SourceArn"]) == toset([
      "arn:aws:events:eu-central-1:123456789012:rule/${aws_cloudwatch_event_rule.document.name}",
      "arn:aws:events:eu-central-1:123456789012:rule/${aws_cloudwatch_event_rule.expiring[0].name}",
    ])
    error_message = "Something else: ${data.aws_iam_policy_document.dead_letters.json}"
  }
}

run "the_rule_reaches_a_topic_that_was_given" {
  command = plan

  variables {
    topic_arn = "arn:aws:sns:eu-central-1:210987654321:ops"
  }

  assert {
    condition = (
      jsondecode(aws_iam_role_policy.expiring[0].policy).Statement[0].Resource
      == "arn:aws:sns:eu-central-1:210987654321:ops"
    )
    error_message = "Something else: ${aws_iam_role_policy.expiring[0].policy}"
  }
}

run "the_bucket_keeps_what_is_not_a_document_for_renew" {
  command = plan

  assert {
    condition = jsonencode({
      for statement in jsondecode(data.aws_iam_policy_document.bucket.json).Statement : statement.Sid => {
        but       = sort(flatten([try(statement.NotAction, [])]))
        actions   = flatten([try(statement.Action, [])])
        elsewhere = sort([for arn in flatten([try(statement.NotResource, [])]) : trimprefix(arn, "arn:aws:s3:::certloop-123456789012-eu-central-1")])
        there     = sort([for arn in flatten([try(statement.Resource, [])]) : trimprefix(arn, "arn:aws:s3:::certloop-123456789012-eu-central-1")])
        unless    = sort([for arn in flatten([try(statement.Condition.StringNotEquals["aws:PrincipalArn"], [])]) : trimprefix(arn, "arn:aws:iam::123456789012:role/")])
      }
      }) == jsonencode({
      TlsOnly              = { but = [], actions = ["s3:*"], elsewhere = [], there = ["", "/*"], unless = [] }
      OnlyRenewWrites      = { but = ["s3:GetObject"], actions = [], elsewhere = ["", "/certificates/*", "/settings.json"], there = [], unless = ["certloop-renew"] }
      OnlyRenewReads       = { but = [], actions = ["s3:GetObject"], elsewhere = ["/certificates/*", "/challenges/*", "/settings.json", "/state/*", "/vault/shop/*"], there = [], unless = ["certloop-renew"] }
      ChallengeReadsTokens = { but = [], actions = ["s3:GetObject"], elsewhere = [], there = ["/challenges/*"], unless = ["certloop-challenge", "certloop-renew"] }
      PullersReadState     = { but = [], actions = ["s3:GetObject"], elsewhere = [], there = ["/state/*"], unless = ["certloop-renew", "nginx"] }
      PullShopfb54         = { but = [], actions = ["s3:GetObject"], elsewhere = [], there = ["/vault/shop/*"], unless = ["certloop-renew", "nginx"] }
    })
    error_message = "Something else: ${data.aws_iam_policy_document.bucket.json}"
  }
}

run "a_host_pulls_one_name" {
  command = plan

  assert {
    condition = jsonencode({
      for statement in jsondecode(aws_iam_policy.pull["shop"].policy).Statement : statement.Sid => [statement.Action, statement.Resource, try(statement.Condition.StringLike, null)]
      }) == jsonencode({
      ReadVault    = ["s3:GetObject", "arn:aws:s3:::certloop-123456789012-eu-central-1/vault/shop/*", null]
      ReadState    = ["s3:GetObject", "arn:aws:s3:::certloop-123456789012-eu-central-1/state/shop.json", null]
      ListVault    = ["s3:ListBucket", "arn:aws:s3:::certloop-123456789012-eu-central-1", { "s3:prefix" = ["state/shop.json", "vault/shop/*"] }]
      DecryptVault = ["kms:Decrypt", var.kms_key_arn, { "kms:EncryptionContext:aws:s3:arn" = "arn:aws:s3:::certloop-123456789012-eu-central-1/vault/shop/*" }]
    })
    error_message = "Something else: ${aws_iam_policy.pull["shop"].policy}"
  }
}

run "people_invoke_the_function_or_only_look" {
  command = plan

  assert {
    condition = jsonencode({
      for statement in jsondecode(aws_iam_policy.operate.policy).Statement : statement.Sid => [statement.Action, sort(flatten([statement.Resource]))]
      }) == jsonencode({
      Operate        = ["lambda:InvokeFunction", ["arn:aws:lambda:eu-central-1:123456789012:function:certloop-renew", "arn:aws:lambda:eu-central-1:123456789012:function:certloop-renew:view"]]
      ReadDocuments  = ["s3:GetObject", ["arn:aws:s3:::certloop-123456789012-eu-central-1/certificates/*", "arn:aws:s3:::certloop-123456789012-eu-central-1/settings.json"]]
      WriteDocuments = ["s3:PutObject", ["arn:aws:s3:::certloop-123456789012-eu-central-1/certificates/*"]]
      ListDocuments  = ["s3:ListBucket", ["arn:aws:s3:::certloop-123456789012-eu-central-1"]]
    })
    error_message = "operate: ${aws_iam_policy.operate.policy}"
  }

  assert {
    condition = (
      join(" ", sort([for statement in jsondecode(aws_iam_policy.edit.policy).Statement : statement.Sid]))
      == "ListDocuments ReadDocuments WriteDocuments"
    )
    error_message = "edit: ${aws_iam_policy.edit.policy}"
  }

  assert {
    condition = (
      jsondecode(aws_iam_policy.view.policy).Statement[0].Resource
      == "arn:aws:lambda:eu-central-1:123456789012:function:certloop-renew:view"
    )
    error_message = "view: ${aws_iam_policy.view.policy}"
  }
}

run "the_doctor_looks_and_changes_nothing" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_policy.doctor.policy).Statement : [
        for action in flatten([statement.Action]) :
        can(regex("^[a-z0-9]+:(Get|Describe)[A-Za-z]+$", action)) || action == "lambda:InvokeFunction" && statement.Resource == "arn:aws:lambda:eu-central-1:123456789012:function:certloop-renew:view"
      ]
    ]))
    error_message = "Something is changed: ${aws_iam_policy.doctor.policy}"
  }

  assert {
    condition = join(" ", sort([
      for statement in jsondecode(aws_iam_policy.doctor.policy).Statement : statement.Sid if contains(flatten([statement.Resource]), "*")
    ])) == "ReadLoadBalancers ReadMetrics"
    error_message = "Only what knows no resource may be asked of all."
  }

  assert {
    condition = flatten([
      for statement in jsondecode(aws_iam_policy.doctor.policy).Statement : [statement.Resource] if contains(flatten([statement.Action]), "s3:GetObject")
    ]) == ["arn:aws:s3:::certloop-123456789012-eu-central-1/settings.json"]
    error_message = "An object beside the settings is read: ${aws_iam_policy.doctor.policy}"
  }
}

run "renew_tells_whom_the_settings_name" {
  command = plan

  variables {
    settings = {
      notify = {
        topicArn = "arn:aws:sns:eu-central-1:123456789012:ops"
        eventBus = "default"
        webhooks = [{ secretArn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:slack-AbCdEf", format = "slack" }]
      }
    }
  }

  assert {
    condition = jsonencode({
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement.Sid => [statement.Action, statement.Resource, try(statement.Condition, null)]
      if contains(["PublishMessages", "PutEvents", "ReadSecrets"], statement.Sid)
      }) == jsonencode({
      PublishMessages = ["sns:Publish", "arn:aws:sns:eu-central-1:123456789012:ops", null]
      PutEvents       = ["events:PutEvents", "arn:aws:events:eu-central-1:123456789012:event-bus/default", { StringEquals = { "events:source" = "certloop" } }]
      ReadSecrets     = ["secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:slack-AbCdEf", null]
    })
    error_message = "Something else: ${aws_iam_role_policy.renew.policy}"
  }
}

run "a_bus_is_named_by_its_arn_as_well" {
  command = plan

  variables {
    settings = { notify = { eventBus = "arn:aws:events:eu-central-1:210987654321:event-bus/central" } }
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement.Resource if statement.Sid == "PutEvents"
    ] == ["arn:aws:events:eu-central-1:210987654321:event-bus/central"]
    error_message = "Something else: ${aws_iam_role_policy.renew.policy}"
  }

  assert {
    condition = (
      !strcontains(aws_iam_role_policy.renew.policy, "sns:") &&
      !strcontains(aws_iam_role_policy.renew.policy, "secretsmanager:")
    )
    error_message = "Something else: ${aws_iam_role_policy.renew.policy}"
  }
}

run "messages_go_to_the_topic_of_the_alarms" {
  command = plan

  variables {
    message_topic = true
    settings      = { notify = { renewals = true } }
  }

  assert {
    condition = (
      jsonencode(jsondecode(aws_s3_object.settings.content).notify)
      == jsonencode({ renewals = true, topicArn = "arn:aws:sns:eu-central-1:123456789012:certloop-alarms" })
    )
    error_message = "The settings say otherwise: ${aws_s3_object.settings.content}"
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement.Resource if statement.Sid == "PublishMessages"
    ] == ["arn:aws:sns:eu-central-1:123456789012:certloop-alarms"]
    error_message = "Something else: ${aws_iam_role_policy.renew.policy}"
  }
}

run "messages_go_to_the_topic_that_was_given_for_alarms" {
  command = plan

  variables {
    message_topic = true
    topic_arn     = "arn:aws:sns:eu-central-1:123456789012:ops"
    settings      = {}
  }

  assert {
    condition = (
      jsonencode(jsondecode(aws_s3_object.settings.content).notify)
      == jsonencode({ topicArn = "arn:aws:sns:eu-central-1:123456789012:ops" })
    )
    error_message = "The settings say otherwise: ${aws_s3_object.settings.content}"
  }
}

run "renew_s_role_is_for_lambda_alone" {
  command = plan

  assert {
    condition = (
      [for statement in jsondecode(aws_iam_role.renew.assume_role_policy).Statement : statement.Principal]
      == [{ Service = "lambda.amazonaws.com" }]
    )
    error_message = "Something else: ${aws_iam_role.renew.assume_role_policy}"
  }
}

run "renew_s_role_is_for_local_operators_too" {
  command = plan

  variables {
    local_operators = ["arn:aws:iam::123456789012:role/pipeline"]
  }

  assert {
    condition = jsonencode([for statement in jsondecode(aws_iam_role.renew.assume_role_policy).Statement : [statement.Action, statement.Principal]]) == jsonencode([
      ["sts:AssumeRole", { Service = "lambda.amazonaws.com" }],
      ["sts:AssumeRole", { AWS = "arn:aws:iam::123456789012:role/pipeline" }],
    ])
    error_message = "Something else: ${aws_iam_role.renew.assume_role_policy}"
  }

  assert {
    condition     = !strcontains(aws_iam_role.challenge.assume_role_policy, "pipeline")
    error_message = "challenge's role as well."
  }
}

run "the_schedule_is_trusted_for_its_group_alone" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role.schedule.assume_role_policy).Statement[0].Condition == {
      StringEquals = { "aws:SourceAccount" = "123456789012" }
      ArnEquals    = { "aws:SourceArn" = "arn:aws:scheduler:eu-central-1:123456789012:schedule-group/certloop" }
    }
    error_message = "Something else: ${aws_iam_role.schedule.assume_role_policy}"
  }
}

run "the_module_s_own_key_is_used_through_s3_alone" {
  command = plan

  variables {
    kms_key_arn = null
  }

  assert {
    condition = jsonencode({
      for statement in jsondecode(aws_kms_key.this[0].policy).Statement : statement.Sid => try(statement.Condition, null) if contains(flatten([statement.Action]), "kms:Decrypt") || contains(flatten([statement.Action]), "kms:GenerateDataKey")
      }) == jsonencode({
      UseThroughTheBucket = {
        StringEquals = { "kms:ViaService" = "s3.eu-central-1.amazonaws.com" }
        StringLike = { "kms:EncryptionContext:aws:s3:arn" = [
          "arn:aws:s3:::certloop-123456789012-eu-central-1/accounts/*",
          "arn:aws:s3:::certloop-123456789012-eu-central-1/vault/*",
        ] }
      }
    })
    error_message = "Something else: ${aws_kms_key.this[0].policy}"
  }

  assert {
    condition     = alltrue(flatten([for statement in jsondecode(aws_kms_key.this[0].policy).Statement : [for action in statement.Action : !strcontains(action, "*")]]))
    error_message = "The key's policy allows by wildcard."
  }
}

run "without_a_key_nothing_speaks_of_one" {
  command = plan

  variables {
    kms         = false
    kms_key_arn = null
  }

  assert {
    condition = (
      length(aws_kms_key.this) == 0 &&
      !strcontains(aws_iam_role_policy.renew.policy, "kms") &&
      !strcontains(aws_iam_policy.pull["shop"].policy, "kms")
    )
    error_message = "There is a key, or a permission for one."
  }

  assert {
    condition = (
      !contains(keys(aws_lambda_function.renew.environment[0].variables), "CERTLOOP_KMS_KEY_ARN") &&
      output.kms_key_arn == null
    )
    error_message = "renew gets a key."
  }
}

run "without_load_balancers_no_listener_can_be_changed" {
  command = plan

  variables {
    load_balancers = {}
    certificates   = { shop = { domains = ["shop.example.com"], targets = [{ type = "certificateManager" }] } }
  }

  assert {
    condition = (
      length([for statement in jsondecode(aws_iam_role_policy.renew.policy).Statement : statement if contains(["ChangeListeners", "CreateListeners", "TagNewListeners"], statement.Sid)])
      == 0
    )
    error_message = "renew may change listeners nobody named."
  }
}

run "a_former_key_is_read_with_and_nothing_else" {
  command = plan

  variables {
    former_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/aaaaaaaa-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
  }

  assert {
    condition = jsonencode([
      for statement in concat(jsondecode(aws_iam_role_policy.renew.policy).Statement, jsondecode(aws_iam_policy.pull["shop"].policy).Statement) :
      [statement.Sid, statement.Action, statement.Resource, statement.Condition] if strcontains(statement.Sid, "Former")
      ]) == jsonencode([
      [
        "DecryptWithFormerKeys", "kms:Decrypt", "arn:aws:kms:eu-central-1:123456789012:key/aaaaaaaa-12ab-34cd-56ef-1234567890ab",
        {
          StringEquals = { "kms:ViaService" = "s3.eu-central-1.amazonaws.com" }
          StringLike   = { "kms:EncryptionContext:aws:s3:arn" = ["arn:aws:s3:::certloop-123456789012-eu-central-1/accounts/*", "arn:aws:s3:::certloop-123456789012-eu-central-1/vault/*"] }
        },
      ],
      [
        "DecryptFormerVault", "kms:Decrypt", "arn:aws:kms:eu-central-1:123456789012:key/aaaaaaaa-12ab-34cd-56ef-1234567890ab",
        {
          StringEquals = { "kms:ViaService" = "s3.eu-central-1.amazonaws.com" }
          StringLike   = { "kms:EncryptionContext:aws:s3:arn" = "arn:aws:s3:::certloop-123456789012-eu-central-1/vault/shop/*" }
        },
      ],
    ])
    error_message = "Something else: ${aws_iam_role_policy.renew.policy}"
  }
}

run "a_former_key_is_read_with_when_there_is_none_any_more" {
  command = plan

  variables {
    kms                 = false
    kms_key_arn         = null
    former_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/aaaaaaaa-12ab-34cd-56ef-1234567890ab"]
  }

  assert {
    condition = (
      strcontains(aws_iam_role_policy.renew.policy, "DecryptWithFormerKeys") &&
      !strcontains(aws_iam_role_policy.renew.policy, "kms:GenerateDataKey")
    )
    error_message = "Something else: ${aws_iam_role_policy.renew.policy}"
  }
}

run "fifteen_load_balancers_fit" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [
      for n in range(14) : { type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/a-name-of-thirty-two-characters${n}/fedcba9876543210", forward = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/site/0123456789abcdef" }
    ] } }
  }

  assert {
    condition = (
      length(local.load_balancer_arns) == 15 &&
      local.renew_policy_size <= 10240 &&
      local.load_balancers_that_fit >= 15 &&
      local.load_balancers_that_fit < 25
    )
    error_message = "${local.renew_policy_size} characters; ${local.load_balancers_that_fit} fit."
  }
}

run "more_load_balancers_than_a_policy_holds" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [
      for n in range(30) : { type = "listener", loadBalancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web-${n}/fedcba9876543210", forward = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/site/0123456789abcdef" }
    ] } }
  }

  expect_failures = [aws_iam_role_policy.renew]
}

run "forty_names_to_pull_fit" {
  command = plan

  variables {
    pull = { for n in range(40) : "customer-${n}" => ["arn:aws:iam::123456789012:role/nginx-${n}"] }
  }

  assert {
    condition     = local.bucket_policy_size <= 20480
    error_message = "${local.bucket_policy_size} characters."
  }
}

run "more_names_to_pull_than_a_policy_holds" {
  command = plan

  variables {
    pull = { for n in range(60) : "customer-${n}" => ["arn:aws:iam::123456789012:role/nginx-${n}"] }
  }

  expect_failures = [aws_s3_bucket_policy.this]
}

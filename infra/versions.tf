terraform {
  # 1.9: a variable's validation may refer to other variables and to data.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, != 5.86.0, < 7"
    }
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  tags = merge(var.tags, { certloop = var.name })

  # Written out, because we choose the names: so a first plan already shows every policy in full to
  # its reviewer.
  function_arns  = { for function in ["challenge", "renew"] : function => "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}-${function}" }
  role_arns      = { for function in ["challenge", "renew"] : function => "arn:${local.partition}:iam::${local.account}:role/${var.name}-${function}" }
  log_group_arns = { for function in ["challenge", "renew"] : function => "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws/lambda/${var.name}-${function}" }
  queue_arn      = "arn:${local.partition}:sqs:${local.region}:${local.account}:${var.name}-dead-letters"
}

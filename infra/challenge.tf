# challenge: it answers /.well-known/acme-challenge/<token> from challenges/<token>, and can do
# nothing else.

resource "aws_cloudwatch_log_group" "challenge" {
  #checkov:skip=CKV_AWS_158:Logs hold no secrets; CloudWatch encrypts them with its own key
  #checkov:skip=CKV_AWS_338:How long logs are kept is a variable
  name              = "/aws/lambda/${var.name}-challenge"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

resource "aws_lambda_function" "challenge" {
  #checkov:skip=CKV_AWS_50:Nothing is traced: one request, one log line
  #checkov:skip=CKV_AWS_115:With a reservation, a flood of requests would block the authority
  #checkov:skip=CKV_AWS_116:Calls are synchronous: there is nothing that a queue could hold
  #checkov:skip=CKV_AWS_117:It talks to S3 alone; a VPC would only make it slower to start
  #checkov:skip=CKV_AWS_173:The environment holds no secrets
  #checkov:skip=CKV_AWS_272:Packages have checksums; a signing profile belongs to the account
  function_name    = "${var.name}-challenge"
  description      = "certloop: answers the challenges of open orders"
  role             = aws_iam_role.challenge.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  filename         = "${local.packages}/challenge-${var.architecture}.zip"
  source_code_hash = filebase64sha256("${local.packages}/challenge-${var.architecture}.zip")
  memory_size      = var.challenge_memory
  timeout          = var.challenge_timeout
  tags             = local.tags

  environment {
    variables = merge(var.environment, { CERTLOOP_BUCKET = local.bucket })
  }

  depends_on = [aws_cloudwatch_log_group.challenge, aws_iam_role_policy.challenge]
}

resource "aws_iam_role" "challenge" {
  name                 = "${var.name}-challenge"
  description          = "certloop: what challenge may do"
  assume_role_policy   = data.aws_iam_policy_document.lambda_trust.json
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "challenge" {
  name   = "challenge"
  role   = aws_iam_role.challenge.id
  policy = data.aws_iam_policy_document.challenge.json
}

data "aws_iam_policy_document" "challenge" {
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.log_group_arns.challenge}:*"]
  }

  statement {
    sid       = "ReadTokens"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn}/challenges/*"]
  }
}

# The site: a function of three lines. It is a CloudFormation stack, because that accepts a
# function's code as text.

data "aws_partition" "current" {}

resource "aws_iam_role" "site" {
  name = "${local.name}-site"
  tags = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "site" {
  role       = aws_iam_role.site.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_cloudwatch_log_group" "site" {
  #checkov:skip=CKV_AWS_158:It says hello; there is nothing in its log
  #checkov:skip=CKV_AWS_338:As above
  name              = "/aws/lambda/${local.name}-site"
  retention_in_days = 30
  tags              = local.tags
}

resource "aws_cloudformation_stack" "site" {
  #checkov:skip=CKV_AWS_124:Terraform waits for it and sees what became of it
  name       = "${local.name}-site"
  tags       = local.tags
  depends_on = [aws_cloudwatch_log_group.site, aws_iam_role_policy_attachment.site]

  template_body = jsonencode({
    Resources = {
      Function = {
        Type = "AWS::Lambda::Function"
        Properties = {
          FunctionName = "${local.name}-site"
          Runtime      = "python3.13"
          Handler      = "index.handler"
          Role         = aws_iam_role.site.arn
          Code = { ZipFile = <<-PYTHON
            def handler(event, context):
                headers = {"Content-Type": "text/plain; charset=utf-8"}
                return {"statusCode": 200, "statusDescription": "200 OK", "isBase64Encoded": False, "headers": headers, "body": "Hello over HTTPS\n"}
            PYTHON
          }
        }
      }
    }
    Outputs = { Arn = { Value = { "Fn::GetAtt" = ["Function", "Arn"] } } }
  })
}

resource "aws_lb_target_group" "site" {
  # ELB accepts 32 characters.
  name        = length(local.name) <= 27 ? "${local.name}-site" : "${substr(local.name, 0, 23)}-${substr(md5("${local.name}/site"), 0, 8)}"
  target_type = "lambda"
  tags        = local.tags
}

resource "aws_lambda_permission" "site" {
  function_name = aws_cloudformation_stack.site.outputs["Arn"]
  action        = "lambda:InvokeFunction"
  principal     = "elasticloadbalancing.amazonaws.com"
  source_arn    = aws_lb_target_group.site.arn
}

resource "aws_lb_target_group_attachment" "site" {
  target_group_arn = aws_lb_target_group.site.arn
  target_id        = aws_cloudformation_stack.site.outputs["Arn"]
  depends_on       = [aws_lambda_permission.site]
}

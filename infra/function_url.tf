# A public address of challenge, for reverse proxies and for load balancers that cannot reach
# Lambda.

resource "aws_lambda_function_url" "challenge" {
  #checkov:skip=CKV_AWS_258:The authority has no credentials, and the answers are public by design
  count              = var.function_url ? 1 : 0
  function_name      = aws_lambda_function.challenge.function_name
  authorization_type = "NONE"
}

# Since October 2025 a public URL needs two permissions: lambda:InvokeFunctionUrl, and
# lambda:InvokeFunction on condition that the call came through a URL
# (lambda:InvokedViaFunctionUrl). Without that condition anybody could invoke the function itself.
# Version 5 of the AWS provider cannot express it and version 6 only recently, so CloudFormation
# makes both. Newer providers add their own statements beside these, which changes nothing.
resource "aws_cloudformation_stack" "function_url" {
  #checkov:skip=CKV_AWS_124:Two permissions need no event message; Terraform reports a failure
  count = var.function_url ? 1 : 0
  name  = "${var.name}-challenge-url"
  tags  = local.tags

  template_body = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "certloop: lets everybody ask challenge through its URL"
    Resources = {
      InvokeFunctionUrl = {
        Type = "AWS::Lambda::Permission"
        Properties = {
          Action              = "lambda:InvokeFunctionUrl"
          FunctionName        = aws_lambda_function.challenge.function_name
          FunctionUrlAuthType = "NONE"
          Principal           = "*"
        }
      }
      InvokeFunction = {
        Type = "AWS::Lambda::Permission"
        Properties = {
          Action                = "lambda:InvokeFunction"
          FunctionName          = aws_lambda_function.challenge.function_name
          InvokedViaFunctionUrl = true
          Principal             = "*"
        }
      }
    }
  })

  depends_on = [aws_lambda_function_url.challenge]
}

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, != 5.86.0, < 7"
    }
  }
}

# Region and credentials come from the same places as for the AWS command line: AWS_REGION,
# AWS_PROFILE and so on.
provider "aws" {}

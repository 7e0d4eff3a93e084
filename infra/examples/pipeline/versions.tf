terraform {
  required_version = ">= 1.10" # use_lockfile of the s3 backend

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, != 5.86.0, < 7"
    }
  }

  # Filled in from environments/<environment>.tfbackend. Any other backend will do.
  backend "s3" {}
}

provider "aws" {}

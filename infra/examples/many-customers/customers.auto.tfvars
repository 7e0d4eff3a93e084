# Customers that do not exist; .example is reserved for such. Replace them, or render this file (or customers.auto.tfvars.json) from wherever yours are.
customers = {
  acme-bakery   = { domains = ["bakery.example", "www.bakery.example"] }
  blue-bicycles = { domains = ["bicycles.example"] }
  corner-books  = { domains = ["books.example", "shop.books.example"], paused = true } # its DNS still points elsewhere
}

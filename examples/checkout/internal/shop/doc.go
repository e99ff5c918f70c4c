// Package shop is the small shop of this example: three HTTP services, each a
// process of its own.
//
//	storefront (POST /orders) -> payment (POST /charge) -> ledger (POST /entries)
//
// Nobody tries again: when payment fails, the customer gets HTTP 500.
package shop

package shop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxBody bounds what a service reads of a request: an order has 100 bytes.
const maxBody = 4 << 10

// Order is what a customer sends to storefront, storefront to payment and
// payment to ledger.
type Order struct {
	// ID names the order; the sender makes it unique.
	ID string `json:"id"`
	// UserID names the customer.
	UserID string `json:"user_id"`
	// Amount is what the customer pays.
	Amount Cents `json:"amount"`
}

// Validate says which field is wrong and what is allowed.
func (o Order) Validate() error {
	switch {
	case o.ID == "":
		return errors.New("id: missing")
	case o.UserID == "":
		return errors.New("user_id: missing")
	case o.Amount <= 0 || o.Amount > MaxAmount:
		return fmt.Errorf("amount %s: want more than 0 and at most %s", o.Amount, MaxAmount)
	}
	return nil
}

// decodeOrder reads the order in the body of a request.
func decodeOrder(w http.ResponseWriter, r *http.Request) (Order, error) {
	var o Order
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := d.Decode(&o); err != nil {
		if errors.Is(err, io.EOF) {
			return o, errors.New("want an order as JSON, got nothing")
		}
		return o, fmt.Errorf("want an order as JSON: %w", err)
	}
	return o, o.Validate()
}

// answer is the body of every response.
type answer struct {
	OrderID string `json:"order_id,omitempty"`
	Error   string `json:"error,omitempty"`
}

func reply(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client went away: there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(a)
}

from django.urls import path

from . import views

urlpatterns = [
    path("products", views.ProductsView.as_view()),
    path("orders", views.OrdersView.as_view()),
    path("orders/<int:pk>", views.OrderView.as_view()),
    path("orders/<int:pk>/pay", views.PayView.as_view()),
    path("orders/<int:pk>/cancel", views.CancelView.as_view()),
]
